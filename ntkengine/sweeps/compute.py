"""Sweeps: combinations trained one after another, each a row of a table as soon as it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ntkengine.dynamics import Checkpoint, RunSpec, Segment, train
from ntkengine.errors import NumericalError
from ntkengine.spec import to_jsonable
from ntkengine.sweeps.spec import Combination, SweepSpec
from ntkengine.sweeps.table import Numbers, Row, ended, exponents, recorded, row_of, unknown

RUN, NEWEST, DONE = "run/", "newest/", "done/"  # what arrays of a checkpoint are of


@dataclass(frozen=True)
class Step:
    """A stretch of the work: the share that is done, what to go on from, and at the end the table."""

    progress: float
    done: int
    """Rows that there are."""
    checkpoint: Checkpoint
    row: Row | None = None
    """The row that this stretch has completed, if it has one."""
    result: dict[str, Any] | None = None


@dataclass
class Found:
    """The rows that are done, with the numbers behind them; and how far the next one is."""

    rows: list[Row] = field(default_factory=list)
    numbers: list[Numbers] = field(default_factory=list)
    run: Checkpoint = field(default_factory=dict)
    """Of the run that is under way."""
    newest: Numbers = field(default_factory=dict)
    """What its newest point has."""

    @classmethod
    def of(cls, checkpoint: Checkpoint | None) -> Found:
        if checkpoint is None:
            return cls()
        rows = json.loads(checkpoint["rows"].tobytes())
        ends = np.cumsum([row["members"] for row in rows])[:-1]
        parts = {name: np.split(flat, ends) for name, flat in under(DONE, checkpoint).items()}
        numbers = [{name: part[index] for name, part in parts.items()} for index in range(len(rows))]
        return cls(rows, numbers, under(RUN, checkpoint), under(NEWEST, checkpoint))

    def checkpoint(self) -> Checkpoint:
        """All of it as arrays; those of members one after another, so that there are few."""
        text = json.dumps(self.rows, allow_nan=False).encode()
        names = self.numbers[0] if self.numbers else {}
        done = {name: np.concatenate([each[name] for each in self.numbers]) for name in names}
        return {
            "rows": np.frombuffer(text, np.uint8),
            **{DONE + name: array for name, array in done.items()},
            **{RUN + name: array for name, array in self.run.items()},
            **{NEWEST + name: array for name, array in self.newest.items()},
        }

    def see(self, run: RunSpec, segment: Segment) -> None:
        """Take in a segment of the run that is under way."""
        self.run = segment.checkpoint
        if segment.points:
            self.newest = recorded(run, segment.points[-1].values)

    def finish(self, spec: SweepSpec, combination: Combination, run: RunSpec, error: str | None) -> Row:
        """Make a row of what the run has come to."""
        numbers = {**self.newest, **ended(run, self.run)} if error is None else unknown(run)
        row = row_of(spec, combination, run, numbers, error)
        self.rows.append(row)
        self.numbers.append(numbers)
        self.run, self.newest = {}, {}
        return row


def under(prefix: str, checkpoint: Checkpoint) -> Checkpoint:
    """The arrays whose names begin so, under the rest of them."""
    named = {name: array for name, array in checkpoint.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): array for name, array in named.items()}


def sweep(
    spec: SweepSpec, checkpoint: Checkpoint | None = None, *, segment_seconds: float = 0.5
) -> Iterator[Step]:
    """Train every combination of the axes' values, and put their numbers into one table.

    A row has the `values`, an axis each, and what came of them: `outcome`, `members`, how many of them
    `diverged`, and {median, low, high} over the others with bootstrap intervals of `loss` and `loss_test` at
    the end, `kernel_change` `|Theta_T - Theta_0|_F / |Theta_0|_F`, `weight_change` `|theta_T - theta_0| /
    |theta_0|`, and with a linearized twin `linearization_error` `|f_T - f_lin,T| / |f_T - f_0|`; of `steps`
    and `time` (in the unit of the run's `facts`) of all. A combination whose numbers leave the range of
    float64 has a row that says so, as `error`. The last step has the table: `axes`, `rows`, and `exponents`
    of the last three in each axis of three or more positive numbers, one for each combination of the others.

    A sweep that is taken up from a step's checkpoint goes on where it was, and comes to the same table bit
    for bit (on a CPU with one thread): what is done is not computed again.

    Raises:
        EngineError: a combination is no run that can be trained.

    >>> from ntkengine import Data, Dense, GradientDescent, Model, Tanh
    >>> from ntkengine.sweeps import SweepAxis
    >>> run = RunSpec(model=Model(layers=(Dense(width=8), Tanh(), Dense(width=1))),
    ...               data=Data(x=[[1.0], [-1.0]], y=[[0.5], [-0.5]]), seeds=(0, 1, 2),
    ...               training=GradientDescent(learning_rate=0.1, steps=100))
    >>> widths = SweepAxis(field="/model/layers/0/width", values=(64, 256, 1024))
    >>> *_, last = sweep(SweepSpec(run=run, axes=(widths,)))
    >>> [row["values"] for row in last.result["rows"]]
    [[64], [256], [1024]]
    >>> -1.5 < last.result["exponents"][0]["slope"] < -0.5
    True
    """
    spec.check()
    found = Found.of(checkpoint)
    costs = np.array(spec.costs())
    begins = np.concatenate([[0.0], np.cumsum(costs)]) / costs.sum()
    for combination, run in spec.runs():
        index = combination.index
        if index < len(found.rows):
            continue
        error = None
        try:
            for segment in train(run, found.run or None, segment_seconds=segment_seconds):
                found.see(run, segment)
                if segment.outcome is None:
                    done = begins[index] + segment.progress * (begins[index + 1] - begins[index])
                    yield Step(float(done), index, found.checkpoint())
        except NumericalError as raised:
            error = str(raised)
        row = found.finish(spec, combination, run, error)
        yield Step(float(begins[index + 1]), index + 1, found.checkpoint(), row)
    table = {
        "axes": to_jsonable(spec.axes),
        "rows": found.rows,
        "exponents": exponents(spec, found.rows, found.numbers),
    }
    yield Step(1.0, len(found.rows), found.checkpoint(), result=table)
