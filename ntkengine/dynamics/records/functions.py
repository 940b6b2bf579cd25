"""Records of the function: loss, outputs, errors, and how outputs move."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ntkengine.dynamics.records.base import Record, Shapes, Size, Value, array
from ntkengine.dynamics.schedules import AnySchedule, LinearSchedule
from ntkengine.spec import spec

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.dynamics.snapshot import Snapshot, State


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
class ErrorsRecord(Record):
    """`f - y` on the training inputs (m, k), and as `errors_test` on the test inputs that have targets."""

    what: Literal["errors"] = "errors"
    """Which quantity."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        return Size((shapes.m + shapes.n) * shapes.k, (shapes.m + shapes.n) * shapes.k)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        outputs = snapshot.now.outputs_by_part()
        return {f"errors{part}": array(outputs[part] - y) for part, y in snapshot.problem.targets().items()}


@spec
class SlopesRecord(Record):
    """`df/dt` on the training inputs, and as `slopes_test` on the test inputs: `measured` as the trainer
    moves, and `predicted` by the kernel, `-sum_d Theta(x, x_d) dL/df(x_d)`."""

    needs_time: ClassVar[bool] = True
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


def predicted_slope(state: State, x: Tensor) -> Tensor:
    """`-sum_d sum_b Theta(x, x_d)[a, b] dL/df_b(x_d)`, (n, k), learning rates included."""
    import torch

    problem = state.problem
    derivative = problem.loss.derivative(state.outputs, problem.y)
    return -torch.einsum("ijab,jb->ia", state.moving_blocks(x), derivative)
