"""What a run records, chosen by name. Torch-free to validate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, final

import numpy as np
from pydantic import Field

from ntkengine.dynamics.schedules import AnySchedule, Axis, LinearSchedule
from ntkengine.empirical.implementation import parameter_count
from ntkengine.errors import SpecError
from ntkengine.layer import Site
from ntkengine.outputs import OUTPUT_FORMS, Outputs
from ntkengine.spec import spec

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.dynamics.snapshot import Snapshot, State

Value = float | np.ndarray | dict[str, "Value"]


class Shapes(NamedTuple):
    """What sizes depend on: m training and n test inputs, k outputs, the number of weights."""

    m: int
    n: int
    k: int
    weights: int


class Size(NamedTuple):
    """Numbers that a record keeps each time, and that it holds in memory while it is taken."""

    kept: int
    held: int


class Record(ABC):
    """A quantity and when it is recorded."""

    what: str
    schedule: AnySchedule
    most_weights: ClassVar[int | None] = None  # on larger networks it is not recorded

    @abstractmethod
    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        """The quantity at that moment, by the names under which it is stored."""

    @abstractmethod
    def size(self, shapes: Shapes) -> Size:
        """How large one value is."""

    @final
    def check(self, site: Site, axis: Axis) -> None:
        """Raise a SpecError where it cannot be recorded on that network or at those moments."""
        self.schedule.positions(axis)
        count = parameter_count(site)
        if self.most_weights is not None and count > self.most_weights:
            raise SpecError(
                f"the network has {count} weights; {self.what} are recorded of at most {self.most_weights}",
                hint=f"leave {self.what} out, or use a narrower network",
            )


@spec
class LossRecord(Record):
    """The training loss."""

    what: Literal["loss"] = "loss"
    """Which quantity."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        return Size(1, shapes.m * shapes.k)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        problem, outputs = snapshot.problem, snapshot.now.outputs_by_part()
        return {
            f"loss{part}": float(problem.loss.value(outputs[part], y))
            for part, y in problem.targets().items()
        }


@spec
class OutputsRecord(Record):
    """Outputs on the training inputs (m, k), and as `outputs_test` on the test inputs."""

    what: Literal["outputs"] = "outputs"
    """Which quantity."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        return Size((shapes.m + shapes.n) * shapes.k, (shapes.m + shapes.n) * shapes.k)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        return {f"outputs{part}": array(f) for part, f in snapshot.now.outputs_by_part().items()}


@spec
class KernelRecord(Record):
    """The empirical NTK of the training inputs."""

    what: Literal["kernel"] = "kernel"
    """Which quantity."""
    outputs: Outputs = "mean"
    """What is kept of the k x k block of a pair: `full` (m, m, k, k), `trace`, `mean` or `diagonal`."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        kept = math.prod(OUTPUT_FORMS[self.outputs].shape(shapes.m, shapes.m, shapes.k))
        return Size(kept, 3 * kept)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        return {"kernel": array(snapshot.now.kernel(self.outputs))}


@spec
class SlopesRecord(Record):
    """`df/dt` on the training inputs, and as `slopes_test` on the test inputs: `measured` as the trainer
    moves, and `predicted` by the kernel, `-sum_d Theta(x, x_d) dL/df(x_d)`."""

    what: Literal["slopes"] = "slopes"
    """Which quantity."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        inputs = shapes.m + shapes.n
        return Size(2 * inputs * shapes.k, 3 * inputs * shapes.m * shapes.k**2)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        import torch

        inputs = snapshot.problem.inputs()
        predicted = predicted_slope(snapshot.now, torch.cat(list(inputs.values())))
        by_part = torch.split(predicted, [len(x) for x in inputs.values()])
        measured = snapshot.measured_slopes()
        return {
            f"slopes{part}": {"measured": array(measured[part]), "predicted": array(should)}
            for part, should in zip(inputs, by_part, strict=True)
        }


@spec
class WeightsRecord(Record):
    """Every trained tensor by name; for networks of at most 4,096 numbers."""

    most_weights: ClassVar[int | None] = 4096
    what: Literal["weights"] = "weights"
    """Which quantity."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        return Size(shapes.weights, shapes.weights)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        return {"weights": {name: array(p) for name, p in snapshot.now.network.trained().items()}}


AnyRecord = Annotated[
    LossRecord | OutputsRecord | KernelRecord | SlopesRecord | WeightsRecord, Field(discriminator="what")
]


def predicted_slope(state: State, x: Tensor) -> Tensor:
    """`-sum_d sum_b Theta(x, x_d)[a, b] dL/df_b(x_d)`, (n, k), learning rates included."""
    import torch

    problem = state.problem
    derivative = problem.loss.derivative(state.outputs, problem.y)
    return -torch.einsum("ijab,jb->ia", state.moving_blocks(x), derivative)


def array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor, detached and copied."""
    return tensor.numpy(force=True).copy()
