"""A run: the trainer moved from one recorded moment to the next, cut into segments by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ntkengine.data import inputs_shape, load
from ntkengine.dynamics.objective import Objective
from ntkengine.dynamics.records import Record, Value
from ntkengine.dynamics.segments import Checkpoint, Outcome, Point, Segment
from ntkengine.dynamics.snapshot import Snapshot
from ntkengine.dynamics.spec import GradientDescent, GradientFlow, RunSpec
from ntkengine.dynamics.trainers import Descent, Flow, Trainer
from ntkengine.errors import NumericalError

TRAINERS: dict[type, Callable[..., Trainer]] = {GradientDescent: Descent, GradientFlow: Flow}


class Run:
    """A run between two of its segments."""

    def __init__(self, spec: RunSpec, checkpoint: Checkpoint | None) -> None:
        in_shape = inputs_shape(spec.data.x, "/data/x")[1:]
        network = spec.model.network(in_shape, seed=spec.seed or 0, weights=spec.weights)
        x, y = torch.from_numpy(load(spec.data.x, "x")), torch.from_numpy(load(spec.data.y, "y"))
        self._objective = Objective(network, spec.training.loss, x, y)
        self._x_test = None if spec.data.x_test is None else torch.from_numpy(load(spec.data.x_test, "x"))
        self._spec = spec
        self._axis = spec.training.axis()
        self._moments = moments(spec)
        state = checkpoint if checkpoint is not None else self._start()
        self._index, self._next = int(state["segment"]), int(state["next"])
        self._last = float(state["last"])  # position of the newest point
        self._first_loss = state["first_loss"]
        trainer = TRAINERS[type(spec.training)]
        self._trainer = trainer(self._objective, spec.training, state, float(self._first_loss))
        self.outcome: Outcome | None = None

    def _start(self) -> Checkpoint:
        theta = self._objective.theta()
        loss = self._objective.velocity(theta).loss
        if not np.isfinite(loss):
            raise NumericalError(
                "the loss is not finite at the start", hint="scale inputs, targets or weights down"
            )
        start = {"position": 0.0, "step": 0.0, "evaluations": 0, "segment": 0, "next": 0, "last": -1.0}
        return {name: np.asarray(value) for name, value in start.items()} | {
            "theta": theta.numpy(),
            "first_loss": np.asarray(loss),
        }

    def segment(self, seconds: float) -> Segment:
        """Go on for about that long, at least to the next step."""
        deadline = time.monotonic() + seconds
        points: list[Point] = []
        while self.outcome is None:
            points += self._reach_next(deadline)
            if time.monotonic() > deadline:
                break
        index, self._index = self._index, self._index + 1
        done = self.outcome is not None
        return Segment(
            index=index,
            points=tuple(points),
            checkpoint=self._checkpoint(),
            progress=1.0 if done else min(self._trainer.position / self._axis.end, 1.0),
            outcome=self.outcome,
            detail=self._trainer.detail() if done else {},
        )

    def _reach_next(self, deadline: float) -> list[Point]:
        """Move towards the next moment; the point there, or the last point where the trainer ends before."""
        trainer, (target, records) = self._trainer, self._moments[self._next]
        trainer.advance(target, deadline)
        if trainer.outcome is not None and trainer.position <= target:
            self.outcome = trainer.outcome
            missing = self._not_recorded_at(trainer.position)
            return [self._point(trainer.position, missing)] if missing else []
        if trainer.position < target:
            return []  # out of time
        self._next, self._last = self._next + 1, target
        if self._next == len(self._moments):
            self.outcome = Outcome.STOPPED
        return [self._point(target, records)]

    def _not_recorded_at(self, position: float) -> list[Record]:
        """What has no value at this position, which is that of the newest point or beyond it."""
        known = self._moments[self._next - 1][1] if position == self._last else []
        return [record for record in self._spec.record if record not in known]

    def _point(self, position: float, records: Sequence[Record]) -> Point:
        theta = self._trainer.weights_at(position)
        self._objective.load(theta)
        snapshot = Snapshot(self._objective, self._x_test, self._trainer.slope_at(position))
        values: dict[str, Value] = {}
        for record in records:
            values |= {name: value for name, value in record.measure(snapshot).items() if is_finite(value)}
        if self._axis.discrete:
            return Point(int(position), position * (self._spec.training.time_per_step or 1.0), values)
        return Point(None, position, values)

    def _checkpoint(self) -> Checkpoint:
        counters = {"segment": self._index, "next": self._next, "last": self._last}
        pending = self._moments[self._next][0] if self._next < len(self._moments) else self._axis.end
        return (
            self._trainer.state(pending)
            | {name: np.asarray(value) for name, value in counters.items()}
            | {"first_loss": self._first_loss}
        )


def moments(spec: RunSpec) -> list[tuple[float, list[Record]]]:
    """The positions at which something is recorded, ascending, each with what; all is at start and end."""
    axis = spec.training.axis()
    due: dict[float, list[Record]] = {}
    for record in spec.record:
        for position in sorted({0.0, axis.end, *record.schedule.positions(axis)}):
            due.setdefault(position, []).append(record)
    return sorted(due.items(), key=lambda moment: moment[0])


def is_finite(value: Value) -> bool:
    """Whether every number in it is finite."""
    if isinstance(value, dict):
        return all(is_finite(part) for part in value.values())
    return bool(np.isfinite(value).all())
