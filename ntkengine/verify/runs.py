"""Networks of the notes, trained, for the claims about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.activations import Erf, Quadratic
from ntkengine.dynamics import (
    At,
    Data,
    DisplacementRecord,
    GradientFlow,
    KernelDistanceRecord,
    OutputsRecord,
    RunSpec,
    train,
)
from ntkengine.laws import Uniform
from ntkengine.layers import AnyLayer, Dense
from ntkengine.model import Model
from ntkengine.parameterizations import NTK, AnyParameterization

if TYPE_CHECKING:
    from torch import Tensor

X = ((1.0,), (-1.0,))
Y = ((1.0,), (1.0,))
LINE = tuple((float(x),) for x in np.linspace(-1, 1, 21))
AT_ONCE = 50  # networks of a batch

Array = NDArray[np.float64]


def network(
    width: int, activation: AnyLayer | None = None, parameterization: AnyParameterization | None = None
) -> Model:
    """`f(x) = C sum_i v_i s(w_i x + b_i)`, w and v from U(-1, 1), b from U(-1/2, 1/2)."""
    weight = Uniform(half_width=1.0)
    hidden = Dense(width=width, W_law=weight, b_std=1.0, b_law=Uniform(half_width=0.5))
    layers = (hidden, activation or Quadratic(), Dense(width=1, W_law=weight))
    return Model(layers=layers, parameterization=parameterization or NTK())


def gaussian_network(width: int) -> Model:
    """A tanh-like network with Gaussian weights, whose limit is a Gaussian process at all times."""
    hidden = Dense(width=width, W_std=1.0, b_std=0.5)
    return Model(layers=(hidden, Erf(), Dense(width=1)))


def last_values(spec: RunSpec) -> Mapping[str, Any]:
    """What is recorded at the end of a run."""
    (*_, last) = train(spec, segment_seconds=60.0)
    return last.points[-1].values


def points(spec: RunSpec) -> list[Any]:
    """All points of a run."""
    return [point for segment in train(spec, segment_seconds=60.0) for point in segment.points]


def ended(model: Model, seeds: Sequence[int], t_end: float, rtol: float = 1e-8) -> Mapping[str, Array]:
    """Networks on the two points of the notes after gradient flow: by name, a leading axis of seeds.

    `kernel_distance`, `displacement` (S,), `outputs_test` (S, 21, 1) on a line from -1 to 1.
    """
    parts = [
        last_values(
            RunSpec(
                model=model,
                data=Data(x=X, y=Y, x_test=LINE),
                training=GradientFlow(t_end=t_end, rtol=rtol, atol=rtol / 100),
                record=tuple(
                    record(schedule=At(at=(0.0,)))
                    for record in (KernelDistanceRecord, DisplacementRecord, OutputsRecord)
                ),
                seeds=tuple(seeds[start : start + AT_ONCE]),
            )
        )
        for start in range(0, len(seeds), AT_ONCE)
    ]
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}


def linearized(model: Model, seeds: Sequence[int], t_end: float) -> Array:
    """Outputs (S, 21, 1) on the line of the linearized networks after the same flow, in closed form."""
    import torch

    from ntkengine.empirical import empirical_ntk
    from ntkengine.predict import gradient_flow

    x, y, line = (torch.tensor(each, dtype=torch.float64) for each in (X, Y, LINE))
    outputs = []
    for seed in seeds:
        net = model.network((1,), seed=seed)
        kernel = empirical_ntk(net, torch.cat([x, line]), x, with_rates=True)
        with torch.no_grad():
            start = net(torch.cat([x, line]))
        found = gradient_flow(kernel[:2], y, kernel[2:], times=[t_end], f0_train=start[:2], f0_test=start[2:])
        outputs.append(array(found.test)[0])
    return np.stack(outputs)


@lru_cache
def by_width(
    widths: tuple[int, ...],
    seeds: int,
    activation: AnyLayer | None,
    parameterization: AnyParameterization | None,
    t_end: float,
    per_width: bool,
    rtol: float,
) -> Mapping[str, Array]:
    """`kernel`, `weights` and `linearization` (W, S) of networks of those widths, seeds 0, 1, ...

    `linearization` is the root mean square of f - f_lin on the line. With `per_width` t_end is divided by N.
    """
    rows: dict[str, list[Array]] = {"kernel": [], "weights": [], "linearization": []}
    for width in widths:
        model = network(width, activation, parameterization)
        end = t_end / width if per_width else t_end
        found = ended(model, range(seeds), end, rtol)
        off = found["outputs_test"] - linearized(model, range(seeds), end)
        rows["kernel"].append(found["kernel_distance"])
        rows["weights"].append(found["displacement"])
        rows["linearization"].append(np.sqrt((off**2).mean(axis=(1, 2))))
    return {name: np.stack(values) for name, values in rows.items()}


def array(tensor: Tensor | None) -> Array:
    """The numbers of a tensor that is there, since it was asked for."""
    if tensor is None:
        raise ValueError("there are no test points")
    return tensor.numpy()
