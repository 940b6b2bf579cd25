"""Gradient flow: one adaptive solver carries all members, and controls the error of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.integrate import DOP853
from scipy.optimize import brentq
from torch import Tensor

from ntkengine.dynamics.objective import Objective
from ntkengine.dynamics.segments import Checkpoint, Outcome
from ntkengine.dynamics.trainers import Trainer
from ntkengine.dynamics.training import GradientFlow
from ntkengine.errors import NumericalError

ROUNDING = 64 * float(np.finfo(np.float64).eps)  # relative, of a loss


class MemberwiseDOP853(DOP853):  # type: ignore[misc]  # scipy ships no types
    """DOP853 whose error is that of the worst of several systems.

    scipy takes the root mean square over all numbers, so that with S systems one of them may err sqrt(S)
    times its tolerance, or more if the others stand still. The hook is overridden because the
    solver has no other place for a norm; for one system it gives scipy's number.
    """

    def __init__(self, *arguments: Any, running: Callable[[], np.ndarray], **options: Any) -> None:
        self._running = running
        super().__init__(*arguments, **options)

    def _estimate_error_norm(self, K: np.ndarray, h: float, scale: np.ndarray) -> float:
        running = self._running()
        scales, stages = scale.reshape(len(running), -1), K.reshape(len(K), len(running), -1)
        with np.errstate(invalid="ignore", over="ignore"):  # a trial step may overflow, and is refused
            return max(
                float(super(MemberwiseDOP853, self)._estimate_error_norm(stages[:, s], h, scales[s]))
                for s in np.flatnonzero(running)
            )


class Flow(Trainer):
    """Gradient flow by scipy's DOP853; its position is the time."""

    def __init__(
        self, objective: Objective, spec: GradientFlow, state: Checkpoint, first: np.ndarray
    ) -> None:
        super().__init__(objective, spec.stop, first, state)
        self._losses = first
        self._shape = state["theta"].shape
        self.position = float(state["position"])
        known_step = float(state.get("step", 0.0))  # 0 at the start
        self._solver = MemberwiseDOP853(
            self._derivative, self.position, state["theta"].ravel(), spec.t_end, running=lambda: self.running,
            rtol=spec.rtol, atol=spec.atol, first_step=(spec.t_end - self.position) if known_step else None,
        )  # fmt: skip
        if known_step:
            self._solver.h_abs = known_step  # as it was: the constructor takes no step beyond the end
        self._evaluations = int(state.get("evaluations", 0))
        self._before = dict(state)
        self._path: Callable[[float], np.ndarray] | None = None  # between the ends of the last step

    def _derivative(self, _: float, flat: np.ndarray) -> np.ndarray:
        gradient = self.objective.gradient(self._stacked(flat))
        self._losses = gradient.loss.numpy()
        velocity = (-self.objective.rates * gradient.theta).numpy()
        velocity[~self.running] = 0.0
        return velocity.ravel()

    def _stacked(self, flat: np.ndarray) -> Tensor:
        return torch.from_numpy(flat.reshape(self._shape))

    def _step(self) -> None:
        solver = self._solver
        self._before, self._path = self._now(), None
        message = solver.step()
        if solver.status == "failed":
            raise NumericalError(
                f"the flow's solver gave up at time {self.position:g}: {message}",
                hint="use a looser rtol, a smaller output scale, or gradient descent",
            )
        self.position = float(solver.t)
        losses, running = self._losses, self.running  # of the last stage: the end of an accepted step
        for member in np.flatnonzero(running & (losses < self._below)):
            self._end_inside(int(member), self._crossing(int(member)), Outcome.CONVERGED)
        for member in np.flatnonzero(running & ~(losses <= self._above)):
            self._end_inside(int(member), float(solver.t_old), Outcome.DIVERGED)
        if self.over:
            self.position = float(self.ended_at.max())

    def _stop_member(self, member: int, position: float) -> None:
        self._end_inside(member, position, Outcome.STOPPED)

    def _end_inside(self, member: int, position: float, outcome: Outcome) -> None:
        """End a member within the last step, and let the solver go on from there without moving it."""
        weights = self.weights_at(position)[member].numpy()
        self._solver.y.reshape(self._shape)[member] = weights
        self._solver.f.reshape(self._shape)[member] = 0.0
        self._end(member, position, outcome)

    def _now(self) -> Checkpoint:
        solver = self._solver
        return {
            "position": np.asarray(solver.t),
            "theta": solver.y.reshape(self._shape).copy(),
            "step": np.asarray(solver.h_abs),
            "evaluations": np.asarray(self._evaluations + solver.nfev),
        } | self._ends()

    def _crossing(self, member: int) -> float:
        """The time inside the last step at which the loss of a member passes below the threshold."""
        objective = self.objective.only(member)

        def excess(t: float) -> float:
            theta = self.weights_at(t)[member]
            return float(objective.losses(theta[None])) - self._below

        start, end = float(self._solver.t_old), float(self._solver.t)
        if excess(start) <= 0 or excess(end) >= 0:
            return end
        step = 4 * float(np.spacing(end))
        crossing = float(brentq(excess, start, end, xtol=step))
        # The root may be found from above, and all members' losses together round otherwise than one's.
        rounding = ROUNDING * abs(self._below)
        while crossing < end and excess(crossing) >= -rounding:
            crossing, step = min(crossing + step, end), 2 * step
        return crossing

    def _on_path(self, position: float) -> np.ndarray:
        """Weights (S, P) on the last step, of all members that moved in it."""
        if self._path is None:
            self._path = self._solver.dense_output()
        path: np.ndarray = self._path(position).reshape(self._shape)
        return path

    def weights_at(self, position: float) -> Tensor:
        solver = self._solver
        if position == solver.t or solver.t_old is None:
            return self._stacked(solver.y.copy())
        weights = self._on_path(position).copy()
        ended = self.ended_at <= position
        weights[ended] = solver.y.reshape(self._shape)[ended]
        return torch.from_numpy(weights)

    def slope_at(self, position: float, x: Tensor) -> Tensor:
        """Along the velocity that the solver integrates."""
        theta = self.weights_at(position)
        velocity = -self.objective.rates * self.objective.gradient(theta).theta
        return self.objective.derivative_along(theta, x, velocity)

    def state(self, pending: float) -> Checkpoint:
        # positions inside the last step, its end by an outcome among them, are read off that step's path
        return self._before if self.over or pending <= self.position else self._now()

    def detail(self) -> dict[str, Any]:
        return {"method": "DOP853", "evaluations": self._evaluations + int(self._solver.nfev)}
