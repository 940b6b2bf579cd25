"""A run: the trainer moved from one recorded moment to the next, cut into segments by the clock."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ntkengine.data import load
from ntkengine.dynamics.mean_field import MeanFieldFlow
from ntkengine.dynamics.members import Members
from ntkengine.dynamics.objective import Objective, Problem
from ntkengine.dynamics.records import Record, Value
from ntkengine.dynamics.segments import Checkpoint, Outcome, Point, Segment, joint
from ntkengine.dynamics.snapshot import Moment, Snapshot, Stack, State
from ntkengine.dynamics.spec import RunSpec
from ntkengine.dynamics.taylor import taylor
from ntkengine.dynamics.trainers import Trainer
from ntkengine.dynamics.trainers_flow import Flow
from ntkengine.dynamics.trainers_steps import Steps
from ntkengine.dynamics.training import Adam, GradientDescent, GradientFlow
from ntkengine.errors import NumericalError

TRAINERS: dict[type, Callable[..., Trainer]] = {
    Adam: Steps,
    GradientDescent: Steps,
    GradientFlow: Flow,
    MeanFieldFlow: Flow,
}


class Run:
    """A run between two of its segments."""

    def __init__(self, spec: RunSpec, checkpoint: Checkpoint | None) -> None:
        self._spec = spec
        self._axis = spec.training.axis()
        self._moments = moments(spec)
        self._members = Members.of(spec)
        self._objective = Objective(
            self._members.function, self._members.fixed, problem(spec), self._members.rates_by_number()
        )
        self._start = self._states_at_start()
        state = checkpoint if checkpoint is not None else self._first_checkpoint()
        self._index, self._next = int(state["segment"]), int(state["next"])
        self._last = float(state["last"])  # position of the newest point
        self._first_losses = state["first_losses"]
        trainer = TRAINERS[type(spec.training)]
        self._trainer = trainer(self._objective, spec.training, state, self._first_losses)
        self._twins = self._taken_up_twins(state)
        self._memories = memories(state, len(self._members))
        self.outcome: Outcome | None = None

    def _taken_up_twins(self, state: Checkpoint) -> list[Trainer]:
        """The trainer of the linearized twin, if one is recorded: it stops where the network does."""
        record, training = self._spec.linearized, replace(self._spec.training, stop=None)
        if record is None:
            return []
        objective = taylor(self._objective, self._members.theta, record.order)
        return [TRAINERS[type(training)](objective, training, under(TWIN, state), self._first_losses)]

    def _states_at_start(self) -> list[State]:
        """With a network of their own, so that those of the moment can be loaded beside them."""
        members = replace(self._members, network=copy.deepcopy(self._members.network))
        stack = Stack(self._objective, members, self._members.theta)
        return [State(stack, member) for member in range(len(members))]

    def _first_checkpoint(self) -> Checkpoint:
        losses = self._objective.losses(self._members.theta).numpy()
        if not np.isfinite(losses).all():
            raise NumericalError(
                "the loss is not finite at the start", hint="scale inputs, targets or weights down"
            )
        counters = {"segment": 0, "next": 0, "last": -1.0}
        fresh = Trainer.fresh(self._members.theta)
        twin = fresh if self._spec.linearized else {}
        return (
            {name: np.asarray(value) for name, value in counters.items()}
            | fresh
            | below(TWIN, twin)
            | {"first_losses": losses}
        )

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
            detail=self._detail() if done else {},
        )

    def _detail(self) -> dict[str, Any]:
        outcomes = self._trainer.outcomes
        detail = self._trainer.detail()
        if len(outcomes) > 1:
            detail["outcomes"] = [str(outcome) for outcome in outcomes]
        for twin in self._twins:
            detail["linearized"] = twin.detail()
        return detail

    def _reach_next(self, deadline: float) -> list[Point]:
        """Move towards the next moment; the point there, or the last point where all members end before."""
        trainer, (target, records) = self._trainer, self._moments[self._next]
        trainer.advance(target, deadline)
        if not self._reached(min(target, trainer.position) if trainer.over else target, deadline):
            return []  # out of time
        if trainer.over and trainer.position <= target:
            self.outcome = joint(trainer.outcomes)
            missing = self._not_recorded_at(trainer.position)
            return [self._point(trainer.position, missing)] if missing else []
        self._next, self._last = self._next + 1, target
        if self._next == len(self._moments):
            self.outcome = joint(trainer.outcomes)
        return [self._point(target, records)]

    def _reached(self, position: float, deadline: float) -> bool:
        """Whether the members are there, and their twins too, which move behind them."""
        if self._trainer.position < position:
            return False
        for twin in self._twins:
            twin.stop_at(self._trainer.ended_at)
            twin.advance(position, deadline)
        return all(twin.over or twin.position >= position for twin in self._twins)

    def _not_recorded_at(self, position: float) -> list[Record]:
        """What has no value at this position, which is that of the newest point or beyond it."""
        known = self._moments[self._next - 1][1] if position == self._last else []
        return [record for record in self._spec.record if record not in known]

    def _point(self, position: float, records: Sequence[Record]) -> Point:
        snapshots = self._snapshots(position)
        values: dict[str, Value] = {}
        for record in records:
            measured = self._spec.joined([record.measure(snapshot) for snapshot in snapshots])
            values |= {name: value for name, value in measured.items() if is_finite(value)}
        if self._axis.discrete:
            return Point(int(position), position * (self._spec.training.time_per_step or 1.0), values)
        return Point(None, position, values)

    def _snapshots(self, position: float) -> list[Snapshot]:
        trainer = self._trainer
        now = Stack(self._objective, self._members, trainer.weights_at(position))
        stacks = [Stack(twin.objective, self._members, twin.weights_at(position)) for twin in self._twins]
        moment = Moment(now, lambda x: trainer.slope_at(position, x))
        return [
            Snapshot(
                moment,
                State(now, member),
                start,
                linearized=next((State(stack, member) for stack in stacks), None),
                memory=memory,
            )
            for member, (start, memory) in enumerate(zip(self._start, self._memories, strict=True))
        ]

    def _checkpoint(self) -> Checkpoint:
        counters = {"segment": self._index, "next": self._next, "last": self._last}
        pending = self._moments[self._next][0] if self._next < len(self._moments) else self._axis.end
        state = self._trainer.state(pending)
        # a twin may yet be asked for its weights where something is recorded, or where its member ends
        twins = [twin.state(min(pending, self._trainer.position)) for twin in self._twins]
        return (
            state
            | {name: array for twin in twins for name, array in below(TWIN, twin).items()}
            | {name: np.asarray(value) for name, value in counters.items()}
            | {MEMORY + name: np.stack([each[name] for each in self._memories]) for name in self._memories[0]}
            | {"first_losses": self._first_losses}
        )


MEMORY, TWIN = "memory.", "linearized."  # what records remember, and the twin's state, in a checkpoint


def below(prefix: str, state: Checkpoint) -> Checkpoint:
    """Arrays under longer names."""
    return {prefix + name: array for name, array in state.items()}


def under(prefix: str, state: Checkpoint) -> Checkpoint:
    """The arrays whose names begin so, under the rest of them."""
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def memories(state: Checkpoint, members: int) -> list[dict[str, np.ndarray]]:
    """What records remember of each member."""
    kept = under(MEMORY, state)
    return [{name: array[member] for name, array in kept.items()} for member in range(members)]


def problem(spec: RunSpec) -> Problem:
    """The arrays of a spec as tensors, with its loss."""
    data = spec.data
    return Problem(
        loss=spec.training.loss,
        x=torch.from_numpy(load(data.x, "x")),
        y=torch.from_numpy(load(data.y, "y")),
        x_test=None if data.x_test is None else torch.from_numpy(load(data.x_test, "x")),
        y_test=None if data.y_test is None else torch.from_numpy(load(data.y_test, "y")),
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
