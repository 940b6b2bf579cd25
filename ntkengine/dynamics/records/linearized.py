"""The record of the linearized twin. Torch-free to validate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ntkengine.dynamics.records.base import Record, Shapes, Size, Value, array
from ntkengine.dynamics.schedules import AnySchedule, LinearSchedule
from ntkengine.spec import spec

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.dynamics.snapshot import Snapshot

MOST_WEIGHTS = 4096  # a larger twin's weights are not kept


@spec
class LinearizedRecord(Record):
    """The twin: the Taylor expansion `f_lin` of the network in its weights around the start, trained beside
    it from the same weights by the same method, up to where the network itself ends.

    `loss`, `outputs` (m, k) and `outputs_test` (n, k) of the twin; `distance` is
    `|theta - theta_lin| / |theta - theta_0|` and `relative_error` is `|f - f_lin| / |f - f_0|` on the
    training inputs, both 0 at the start; `weights` by name, where there are at most 4,096 numbers.

    Source: Lee et al., "Wide neural networks of any depth evolve as linear models under gradient descent"
    (2019), equation 5; for higher orders Bai and Lee, "Beyond linearization" (2020).
    """

    what: Literal["linearized"] = "linearized"
    """Which quantity."""
    order: Annotated[int, Field(ge=1, le=4, strict=True)] = 1
    """Degree of the expansion: 1 is the linearized network."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        kept = 3 + (shapes.m + shapes.n) * shapes.k
        weights = shapes.weights if shapes.weights <= MOST_WEIGHTS else 0
        return Size(kept + weights, kept + 20 * 2**self.order * shapes.weights)

    def gradients(self) -> int:
        """What a gradient of the twin costs, in gradients of the network."""
        return 5 << (self.order - 1)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        now, start, twin = snapshot.now, snapshot.start, snapshot.linearized
        if twin is None:
            raise ValueError("the run has no twin")
        problem, outputs = snapshot.problem, twin.outputs_by_part()
        found: dict[str, Value] = {f"outputs{part}": array(f) for part, f in outputs.items()}
        found["loss"] = float(problem.loss.value(twin.outputs, problem.y))
        found["distance"] = apart(now.theta, twin.theta, start.theta)
        found["relative_error"] = apart(now.outputs, twin.outputs, start.outputs)
        if len(twin.theta) <= MOST_WEIGHTS:
            found["weights"] = {name: array(part) for name, part in now.named(twin.theta).items()}
        return {"linearized": found}


def apart(real: Tensor, linearized: Tensor, start: Tensor) -> float:
    """`|real - linearized| / |real - start|`, 0 where both are at the start."""
    distance, moved = float((real - linearized).norm()), float((real - start).norm())
    return distance / moved if distance else 0.0
