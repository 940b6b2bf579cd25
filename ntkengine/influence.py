"""What one more training point does to a trained network, everywhere. Torch-free to validate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.data import ArrayField, inputs_shape, load, shape_of
from ntkengine.dynamics import At, Data, GradientFlow, OutputsRecord, RunSpec, Segment, train
from ntkengine.empirical import empirical_ntk
from ntkengine.errors import SpecError
from ntkengine.losses import Squared
from ntkengine.model import Model
from ntkengine.predict import gradient_flow
from ntkengine.spec import NonNegativeInt, spec

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.network import Network

Array = NDArray[np.float64]


@spec
class InfluenceSpec:
    """A network that is trained, given one more point, and trained on."""

    model: Model
    """The network; its start is `raw`."""
    data: Data
    """What it is trained on first; test points are given as `points`."""
    x_new: ArrayField
    """The input that is added, (1, d)."""
    y_new: ArrayField
    """Its target, (1, k)."""
    points: ArrayField
    """Inputs (n, d) at which the function is watched."""
    training: GradientFlow = Field(default_factory=lambda: GradientFlow(t_end=300.0))
    """How it is trained, first without the new point, then for as long with it; on a squared loss."""
    seed: NonNegativeInt = 0
    """Seed of the initial weights."""

    def check(self) -> None:
        """Check the parts against each other. Torch-free.

        Raises:
            EngineError: with the pointer of the field that does not fit.
        """
        if self.model.initial_function != "raw":
            raise SpecError(
                f"the start is {self.model.initial_function!r}; here a network goes on from where it is",
                pointer="/model/initial_function",
                hint='use "raw"',
            )
        if not isinstance(self.training.loss, Squared):
            raise SpecError(
                f"the kernel predicts in closed form for squared losses, got {self.training.loss.kind}",
                pointer="/training/loss",
                hint='use {"kind": "half_sum"}',
            )
        _check_row("x_new", shape_of(self.x_new, "x"), inputs_shape(self.data.x, "/data/x"))
        _check_row("y_new", shape_of(self.y_new, "y"), shape_of(self.data.y, "y"))
        if shape_of(self.points, "x")[1:] != inputs_shape(self.data.x, "/data/x")[1:]:
            raise SpecError(
                f"points have shape {shape_of(self.points, 'x')}, inputs {shape_of(self.data.x, 'x')}",
                pointer="/points",
                hint="give both the same number of columns",
            )
        self.run(self.data, seed=self.seed).check()

    def run(self, data: Data, **start: Any) -> RunSpec:
        """Training on some data from a seed or weights, with the outputs at the points at its end."""
        return RunSpec(
            model=self.model,
            data=Data(x=data.x, y=data.y, x_test=self.points),
            training=self.training,
            record=(OutputsRecord(schedule=At(at=(0.0,))),),
            **start,
        )

    def extended(self) -> Data:
        """The data with the new point."""
        x, y = load(self.data.x, "x"), load(self.data.y, "y")
        return Data(
            x=np.concatenate([x, load(self.x_new, "x")]), y=np.concatenate([y, load(self.y_new, "y")])
        )


@dataclass(frozen=True)
class Influence:
    """Outputs (n, k) at the points, and how they move (n, k) once the new point is trained on."""

    before: Array
    after: Array
    moved: Array
    predicted: Array
    """The motion that the kernel at the time of the addition predicts, in closed form."""
    weight: Array
    """Theta(x, x_new) (n,), the trace over outputs: how much the new point matters at x."""
    relative_error: float
    """`|moved - predicted| / |moved|`."""


def influence(spec: InfluenceSpec) -> Influence:
    """Train a network, add a point, train on: how its outputs move, and how the kernel says they do.

    With the kernel frozen where the point is added, `f(x)` moves by
    `-sum_ij Theta(x, x_i) [(1 - e^(-Theta t)) Theta^-1]_ij (f(x_j) - y_j)`, i and j over all training points.

    Raises:
        EngineError: the spec does not fit together, or a computation left the range of float64.

    Source: the notes' first figure; Jacot et al. (2018), section 5, for the closed form.

    >>> from ntkengine import Data, Dense, Model, Tanh
    >>> model = Model(layers=(Dense(width=512, b_std=0.5), Tanh(), Dense(width=1)))
    >>> spec = InfluenceSpec(model=model, data=Data(x=[[-1.0], [0.0]], y=[[0.5], [0.0]]),
    ...                      x_new=[[1.0]], y_new=[[0.5]], points=[[0.5], [1.0]])
    >>> found = influence(spec)
    >>> found.relative_error < 0.05, found.after[1, 0].round(1)
    (True, np.float64(0.5))
    """
    import torch

    spec.check()
    first = ended(spec.run(spec.data, seed=spec.seed))
    network = spec.model.network(inputs_shape(spec.data.x, "/data/x")[1:], seed=spec.seed)
    weights = named(network, first.checkpoint["theta"])
    data = spec.extended()
    second = ended(spec.run(data, weights=weights))
    network = spec.model.network(inputs_shape(spec.data.x, "/data/x")[1:], weights=weights)
    x, y, points = (torch.from_numpy(load(v, "x")) for v in (data.x, data.y, spec.points))
    both = torch.cat([x, points])
    kernel = empirical_ntk(network, both, x, outputs="full", with_rates=True)
    with torch.no_grad():
        start = network(both)
    m = len(x)
    found = gradient_flow(
        kernel[:m], y, kernel[m:], times=[spec.training.t_end], f0_train=start[:m], f0_test=start[m:],
        loss=spec.training.loss,
    )  # fmt: skip
    before, after = outputs(first), outputs(second)
    predicted = numbers(found.test)[0] - before
    moved = after - before
    off = float(np.linalg.norm(moved - predicted) / (np.linalg.norm(moved) or 1.0))
    weight = numbers(kernel[m:, m - 1]).trace(axis1=1, axis2=2)
    return Influence(before, after, moved, predicted, weight, off)


def ended(run: RunSpec) -> Segment:
    """The last segment of a run."""
    *_, last = train(run, segment_seconds=3600.0)
    return last


def outputs(segment: Segment) -> Array:
    """The outputs at the points when the run ended."""
    value: Any = segment.points[-1].values["outputs_test"]
    return np.asarray(value)


def named(network: Network, theta: Array) -> dict[str, Array]:
    """One flat vector (1, P) as the network's weights by name."""
    tensors = network.trained()
    sizes = [tensor.numel() for tensor in tensors.values()]
    parts = np.split(theta.ravel(), np.cumsum(sizes)[:-1])
    return {name: part.reshape(tensors[name].shape) for name, part in zip(tensors, parts, strict=True)}


def numbers(tensor: Tensor | None) -> Array:
    """The numbers of a tensor that is there."""
    if tensor is None:
        raise ValueError("there are no points")
    return tensor.numpy(force=True)


def _check_row(name: str, found: tuple[int, ...], like: tuple[int, ...]) -> None:
    if found != (1, *like[1:]):
        raise SpecError(
            f"{name} has shape {found}; one more point has {(1, *like[1:])}",
            pointer=f"/{name}",
            hint="give one row",
        )
