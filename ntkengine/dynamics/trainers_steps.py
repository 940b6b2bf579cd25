"""Training by steps: all members make each step together."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntkengine.dynamics.objective import Gradient, Objective
from ntkengine.dynamics.segments import Checkpoint, Outcome
from ntkengine.dynamics.spec import GradientDescent
from ntkengine.dynamics.trainers import Trainer, chosen


class Descent(Trainer):
    """Gradient descent; its position is the number of steps made."""

    def __init__(
        self, objective: Objective, spec: GradientDescent, state: Checkpoint, first: np.ndarray
    ) -> None:
        super().__init__(objective, spec.stop, first, state)
        self._rate = spec.learning_rate
        self.position = float(state["position"])
        self._theta = torch.from_numpy(state["theta"].copy())
        self._gradient: Gradient | None = None  # here, once it was computed

    def _step(self) -> None:
        running, before = self.running, self._theta
        self._theta, self._gradient = chosen(running, self._next(), before), None
        losses = self._here().loss.numpy()
        diverged = running & ~(losses <= self._above)  # NaN is not
        if diverged.any():
            self._theta, self._gradient = chosen(~diverged, self._theta, before), None
        for member in np.flatnonzero(diverged):
            self._end(int(member), self.position, Outcome.DIVERGED)
        if self.over:
            return
        self.position += 1.0
        for member in np.flatnonzero(self.running & (losses < self._below)):
            self._end(int(member), self.position, Outcome.CONVERGED)

    def _here(self) -> Gradient:
        if self._gradient is None:
            self._gradient = self.objective.gradient(self._theta)
        return self._gradient

    def _next(self) -> Tensor:
        return self._theta + self._rate * (-self.objective.rates * self._here().theta)

    def weights_at(self, position: float) -> Tensor:
        return self._theta

    def slope_at(self, position: float, x: Tensor) -> Tensor:
        """From these weights to those of the next step, over the time of a step."""
        after, before = self.objective.outputs(self._next(), x), self.objective.outputs(self._theta, x)
        return (after - before) / self._rate

    def state(self, pending: float) -> Checkpoint:
        here = {"position": np.asarray(self.position), "theta": self._theta.numpy().copy()}
        return here | self._ends()

    def detail(self) -> dict[str, Any]:
        return {"method": "gradient descent", "steps": int(self.position)}
