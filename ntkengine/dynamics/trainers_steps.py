"""Training by steps: all members make each step together, by the rule of an optimiser."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ntkengine.dynamics.objective import Gradient, Objective
from ntkengine.dynamics.segments import Checkpoint, Outcome
from ntkengine.dynamics.trainers import Trainer, chosen
from ntkengine.dynamics.training import Adam, GradientDescent, Stepwise

Buffers = dict[str, Tensor]  # what an optimiser remembers from step to step, each (S, P)


class Rule(ABC):
    """An optimiser: where a step leads. It is pure; the trainer keeps the buffers."""

    buffers: tuple[str, ...]

    @abstractmethod
    def step(self, theta: Tensor, gradient: Tensor, buffers: Buffers, t: int) -> tuple[Tensor, Buffers]:
        """How far step number t = 1, 2, ... moves theta (S, P), before factors by tensor; the new buffers."""


@dataclass(frozen=True)
class DescentRule(Rule):
    """See `GradientDescent`."""

    spec: GradientDescent

    @property
    def buffers(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("momentum",) if self.spec.momentum else ()

    def step(self, theta: Tensor, gradient: Tensor, buffers: Buffers, t: int) -> tuple[Tensor, Buffers]:
        spec = self.spec
        moved = decayed(gradient, theta, spec.weight_decay)
        if spec.momentum:
            moved = spec.momentum * buffers["momentum"] + moved
            buffers = {"momentum": moved}
        return -spec.learning_rate * moved, buffers


@dataclass(frozen=True)
class AdamRule(Rule):
    """See `Adam`."""

    spec: Adam
    buffers: tuple[str, ...] = ("mean", "square")

    def step(self, theta: Tensor, gradient: Tensor, buffers: Buffers, t: int) -> tuple[Tensor, Buffers]:
        spec = self.spec
        g = decayed(gradient, theta, spec.weight_decay)
        mean = spec.beta1 * buffers["mean"] + (1 - spec.beta1) * g
        square = spec.beta2 * buffers["square"] + (1 - spec.beta2) * g**2
        root = square.sqrt() / math.sqrt(1 - spec.beta2**t) + spec.eps
        return -spec.learning_rate / (1 - spec.beta1**t) * mean / root, {"mean": mean, "square": square}


RULES: dict[type, Any] = {GradientDescent: DescentRule, Adam: AdamRule}


def decayed(gradient: Tensor, theta: Tensor, weight_decay: float) -> Tensor:
    """The gradient with that of the penalty `weight_decay |theta|^2 / 2`."""
    return gradient + weight_decay * theta if weight_decay else gradient


@final
@dataclass(frozen=True)
class Batches:
    """Which of m training points a step uses; a function of the number of the step alone."""

    m: int
    size: int | None
    seed: int

    @property
    def partial(self) -> bool:
        return self.size is not None and self.size < self.m

    def rows(self, step: int) -> Tensor | None:
        """The points of the step that follows `step` steps; None is all of them."""
        if self.size is None or not self.partial:
            return None
        epoch, index = divmod(step, math.ceil(self.m / self.size))
        order = np.random.default_rng([self.seed, epoch]).permutation(self.m)
        return torch.from_numpy(order[index * self.size : (index + 1) * self.size])


class Steps(Trainer):
    """Training by steps; its position is the number of steps made."""

    def __init__(self, objective: Objective, spec: Stepwise, state: Checkpoint, first: np.ndarray) -> None:
        super().__init__(objective, spec.stop, first, state)
        self._spec = spec
        self._rule: Rule = RULES[type(spec)](spec)
        self._batches = Batches(len(objective.problem.x), spec.batch_size, spec.batch_seed)
        self.position = float(state["position"])
        self._theta = torch.from_numpy(state["theta"].copy())
        self._buffers = {
            name: torch.from_numpy(state[name].copy()) if name in state else torch.zeros_like(self._theta)
            for name in self._rule.buffers
        }
        self._gradient: Gradient | None = None  # of the step from here, once it was computed

    def _step(self) -> None:
        running, before = self.running, self._theta
        after, self._buffers = self._next()
        self._theta, self._gradient = chosen(running, after, before), None
        self.position += 1.0
        losses = self._here().loss.numpy()
        diverged = running & ~(losses <= self._above)  # NaN is not
        if diverged.any():
            self._theta, self._gradient = chosen(~diverged, self._theta, before), None
        for member in np.flatnonzero(diverged):
            self._end(int(member), self.position - 1.0, Outcome.DIVERGED)
        if self.over:
            self.position = float(self.ended_at.max())
        self._end_converged(losses)

    def _end_converged(self, losses: np.ndarray) -> None:
        if self._below == -np.inf or self.over:
            return
        if self._batches.partial:
            losses = self.objective.losses(self._theta).numpy()
        for member in np.flatnonzero(self.running & (losses < self._below)):
            self._end(int(member), self.position, Outcome.CONVERGED)

    def _stop_member(self, member: int, position: float) -> None:
        self._end(member, position, Outcome.STOPPED)

    def _here(self) -> Gradient:
        if self._gradient is None:
            self._gradient = self.objective.gradient(self._theta, self._batches.rows(int(self.position)))
        return self._gradient

    def _next(self) -> tuple[Tensor, Buffers]:
        t = int(self.position) + 1
        moved, buffers = self._rule.step(self._theta, self._here().theta, self._buffers, t)
        return self._theta + self.objective.rates * moved, buffers

    def weights_at(self, position: float) -> Tensor:
        return self._theta

    def slope_at(self, position: float, x: Tensor) -> Tensor:
        """From these weights to those of the next step, over the time of a step, or over 1 if it has none."""
        after, before = self.objective.outputs(self._next()[0], x), self.objective.outputs(self._theta, x)
        return (after - before) / (self._spec.time_per_step or 1.0)

    def state(self, pending: float) -> Checkpoint:
        here = {"position": np.asarray(self.position), "theta": self._theta.numpy().copy()}
        return here | {name: buffer.numpy().copy() for name, buffer in self._buffers.items()} | self._ends()

    def detail(self) -> dict[str, Any]:
        return {"method": self._spec.kind.replace("_", " "), "steps": int(self.position)}
