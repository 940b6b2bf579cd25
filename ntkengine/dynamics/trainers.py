"""Weights in motion: what a run asks of the ways in which members are trained."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ntkengine.dynamics.objective import Objective
from ntkengine.dynamics.segments import Checkpoint, Outcome
from ntkengine.dynamics.training import Stop

DIVERGED = 1e12  # a loss this many times the first one is not coming back
RUNNING = ""


class Trainer(ABC):
    """The weights of S members in motion. `position` is how far the run has come.

    A member ends where it converges or diverges; from there on it keeps its weights.
    """

    position: float

    def __init__(self, objective: Objective, stop: Stop | None, first: np.ndarray, state: Checkpoint) -> None:
        """`first` are the losses (S,) at the start."""
        self.objective = objective
        self._below = -np.inf if stop is None else stop.loss_below
        self._above = DIVERGED * np.where(first == 0.0, 1.0, first)
        self.ended_at = state["ended_at"].copy()  # (S,), infinite while a member is running
        self._until = np.full_like(self.ended_at, np.inf)
        self._outcomes = [str(outcome) for outcome in state["outcomes"]]
        for member in np.flatnonzero((first < self._below) & self.running):
            self._end(int(member), 0.0, Outcome.CONVERGED)

    @staticmethod
    def fresh(theta: Tensor) -> Checkpoint:
        """The state at the start, from weights theta (S, P)."""
        members = len(theta)
        return {
            "position": np.asarray(0.0),
            "theta": theta.numpy().copy(),
            "ended_at": np.full(members, np.inf),
            "outcomes": np.full(members, RUNNING, dtype="U16"),
        }

    @property
    def running(self) -> np.ndarray:
        """Which members still move (S,)."""
        return np.isinf(self.ended_at)

    @property
    def over(self) -> bool:
        """Whether all have ended."""
        return not self.running.any()

    @property
    def outcomes(self) -> list[Outcome]:
        """How each member ended; `stopped` if it did not before the end of the run."""
        return [Outcome(outcome) if outcome else Outcome.STOPPED for outcome in self._outcomes]

    @final
    def advance(self, to: float, deadline: float) -> None:
        """Move to the position `to`, or past it; less far if the deadline passes or all members end."""
        while not self.over and self.position < to:
            self._step()
            self._stop_members()
            if time.monotonic() > deadline:
                return

    @final
    def stop_at(self, positions: np.ndarray) -> None:
        """Stop each member at its position (S,), no earlier than those that were asked for."""
        self._until = positions
        self._stop_members()

    def _stop_members(self) -> None:
        for member in np.flatnonzero(self.running & (self._until <= self.position)):
            self._stop_member(int(member), float(self._until[member]))

    @final
    def _end(self, member: int, position: float, outcome: Outcome) -> None:
        self.ended_at[member] = position
        self._outcomes[member] = outcome

    def _ends(self) -> Checkpoint:
        """The part of the state that says which members have ended."""
        return {"ended_at": self.ended_at.copy(), "outcomes": np.array(self._outcomes, dtype="U16")}

    @abstractmethod
    def _step(self) -> None:
        """Make one step, and end the members whose last it was."""

    @abstractmethod
    def _stop_member(self, member: int, position: float) -> None:
        """End a member at a position that was reached by the last step."""

    @abstractmethod
    def weights_at(self, position: float) -> Tensor:
        """The weights (S, P) at a position that was reached by the last advance."""

    @abstractmethod
    def slope_at(self, position: float, x: Tensor) -> Tensor:
        """The measured slope `df(x)/dt` (S, n, k) there, as the weights really move."""

    @abstractmethod
    def state(self, pending: float) -> Checkpoint:
        """What to start from to go on, bitwise as if never stopped, where `pending` is the next position."""

    @abstractmethod
    def detail(self) -> dict[str, Any]:
        """What can be said of the work, JSON-able."""


def chosen(mask: np.ndarray, new: Tensor, old: Tensor) -> Tensor:
    """Rows of `new` where the mask is set, of `old` elsewhere."""
    return new if mask.all() else torch.where(torch.from_numpy(mask)[:, None], new, old)
