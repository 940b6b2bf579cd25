"""The two ways in which weights move: by steps, and along the flow."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from scipy.integrate import DOP853
from scipy.optimize import brentq
from torch import Tensor

from ntkengine.dynamics.objective import Objective, Velocity
from ntkengine.dynamics.segments import Checkpoint, Outcome
from ntkengine.dynamics.spec import GradientDescent, GradientFlow, Stop
from ntkengine.errors import NumericalError

DIVERGED = 1e12  # a loss this many times the first one is not coming back


class Trainer(ABC):
    """Weights in motion. `position` is how far they have come, `outcome` set once they are to stop there."""

    position: float

    def __init__(self, objective: Objective, stop: Stop | None, first_loss: float) -> None:
        self.objective = objective
        self._below = -np.inf if stop is None else stop.loss_below
        self._above = DIVERGED * (first_loss or 1.0)
        self.outcome: Outcome | None = Outcome.CONVERGED if first_loss < self._below else None

    @final
    def advance(self, to: float, deadline: float) -> None:
        """Move to the position `to`, or past it; less far if the deadline passes or the run is over."""
        while self.outcome is None and self.position < to:
            self._step()
            if time.monotonic() > deadline:
                return

    @abstractmethod
    def _step(self) -> None:
        """Make one step, and set the outcome if it was the last."""

    @abstractmethod
    def weights_at(self, position: float) -> Tensor:
        """The weights at a position that was reached by the last advance."""

    @abstractmethod
    def slope_at(self, position: float) -> Callable[[Tensor], Tensor]:
        """The measured slope `df(x)/dt` there, as the weights really move."""

    @abstractmethod
    def state(self, pending: float) -> Checkpoint:
        """What to start from to go on, bitwise as if never stopped, where `pending` is the next position."""

    @abstractmethod
    def detail(self) -> dict[str, Any]:
        """What can be said of the work, JSON-able."""


class Descent(Trainer):
    """Gradient descent; its position is the number of steps made."""

    def __init__(
        self, objective: Objective, spec: GradientDescent, state: Checkpoint, first_loss: float
    ) -> None:
        super().__init__(objective, spec.stop, first_loss)
        self._rate = spec.learning_rate
        self.position = float(state["position"])
        self._theta = torch.from_numpy(state["theta"].copy())
        self._velocity: Velocity | None = None  # here, once it was computed

    def _step(self) -> None:
        before, after = self._theta, self._next()
        self._theta, self._velocity = after, None
        loss = self._here().loss
        if not loss <= self._above:  # NaN is not
            self._theta, self._velocity = before, None
            self.outcome = Outcome.DIVERGED
            return
        self.position += 1.0
        if loss < self._below:
            self.outcome = Outcome.CONVERGED

    def _here(self) -> Velocity:
        if self._velocity is None:
            self._velocity = self.objective.velocity(self._theta)
        return self._velocity

    def _next(self) -> Tensor:
        return self._theta + self._rate * self._here().theta

    def weights_at(self, position: float) -> Tensor:
        return self._theta

    def slope_at(self, position: float) -> Callable[[Tensor], Tensor]:
        def difference(x: Tensor) -> Tensor:
            """From these weights to those of the next step, over the time of a step."""
            with torch.no_grad():
                self.objective.load(self._next())
                after = self.objective.network(x)
                self.objective.load(self._theta)
                before = self.objective.network(x)
            return torch.as_tensor((after - before) / self._rate)

        return difference

    def state(self, pending: float) -> Checkpoint:
        return {"position": np.asarray(self.position), "theta": self._theta.numpy().copy()}

    def detail(self) -> dict[str, Any]:
        return {"method": "gradient descent", "steps": int(self.position)}


class Flow(Trainer):
    """Gradient flow by scipy's DOP853; its position is the time."""

    def __init__(
        self, objective: Objective, spec: GradientFlow, state: Checkpoint, first_loss: float
    ) -> None:
        super().__init__(objective, spec.stop, first_loss)
        self._loss = first_loss
        self.position = float(state["position"])
        known_step = float(state["step"])  # 0 at the start
        self._solver = DOP853(
            self._derivative, self.position, state["theta"].copy(), spec.t_end,
            rtol=spec.rtol, atol=spec.atol, first_step=(spec.t_end - self.position) if known_step else None,
        )  # fmt: skip
        if known_step:
            self._solver.h_abs = known_step  # as it was: the constructor takes no step beyond the end
        self._evaluations = int(state["evaluations"])
        self._before = dict(state)
        self._path: Callable[[float], np.ndarray] | None = None  # between the ends of the last step

    def _derivative(self, _: float, theta: np.ndarray) -> np.ndarray:
        velocity = self.objective.velocity(torch.from_numpy(theta))
        self._loss = velocity.loss
        return velocity.theta.numpy()

    def _step(self) -> None:
        solver = self._solver
        self._before = self._now()
        self._path = None
        message = solver.step()
        if solver.status == "failed":
            raise NumericalError(
                f"the flow's solver gave up at time {self.position:g}: {message}",
                hint="use a looser rtol, a smaller output scale, or gradient descent",
            )
        self.position = float(solver.t)
        if self._loss < self._below:  # of the last stage, which is the end of an accepted step
            self.position = self._crossing()
            self.outcome = Outcome.CONVERGED
        elif not self._loss <= self._above:
            self.position = float(solver.t_old)
            self.outcome = Outcome.DIVERGED

    def _now(self) -> Checkpoint:
        solver = self._solver
        return {
            "position": np.asarray(solver.t),
            "theta": solver.y.copy(),
            "step": np.asarray(solver.h_abs),
            "evaluations": np.asarray(self._evaluations + solver.nfev),
        }

    def _crossing(self) -> float:
        """The time inside the last step at which the loss passes below the threshold."""

        def excess(t: float) -> float:
            return self.objective.velocity(self.weights_at(t)).loss - self._below

        start, end = float(self._solver.t_old), float(self._solver.t)
        if excess(start) <= 0 or excess(end) >= 0:
            return end
        step = 4 * float(np.spacing(end))
        crossing = float(brentq(excess, start, end, xtol=step))
        while crossing < end and excess(crossing) >= 0:  # the root may be found from above
            crossing, step = min(crossing + step, end), 2 * step
        return crossing

    def weights_at(self, position: float) -> Tensor:
        if position == self._solver.t:
            return torch.from_numpy(self._solver.y.copy())
        if self._path is None:
            self._path = self._solver.dense_output()
        return torch.from_numpy(self._path(position).copy())

    def slope_at(self, position: float) -> Callable[[Tensor], Tensor]:
        def along_velocity(x: Tensor) -> Tensor:
            velocity = self.objective.velocity(self.weights_at(position)).theta
            return self.objective.derivative_along(x, velocity)

        return along_velocity

    def state(self, pending: float) -> Checkpoint:
        # positions inside the last step, its end by an outcome among them, are read off that step's path
        return self._before if self.outcome is not None or pending <= self.position else self._now()

    def detail(self) -> dict[str, Any]:
        return {"method": "DOP853", "evaluations": self._evaluations + int(self._solver.nfev)}
