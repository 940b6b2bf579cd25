"""A run at one moment: the network with its weights, and what is measured on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ntkengine.dynamics.objective import Objective


@dataclass(frozen=True)
class Snapshot:
    """The objective with the weights of the moment loaded.

    `measured_slope(x)` is `df(x)/dt` as the trainer really moves, without any kernel: from its next
    step under gradient descent, along its velocity under gradient flow.
    """

    objective: Objective
    x_test: Tensor | None
    measured_slope: Callable[[Tensor], Tensor]

    @cached_property
    def outputs(self) -> Tensor:
        """Outputs (m, k) on the training inputs."""
        return self.outputs_on(self.objective.x)

    def outputs_on(self, x: Tensor) -> Tensor:
        """Outputs (n, k) on inputs x."""
        with torch.no_grad():
            result: Tensor = self.objective.network(x)
        return result

    def parts(self) -> dict[str, Tensor]:
        """The inputs on which quantities are recorded, by the suffix of their names."""
        return {"": self.objective.x} | ({} if self.x_test is None else {"_test": self.x_test})
