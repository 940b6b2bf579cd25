"""What many seeds cost that train together, beside one alone: python -m benchmarks.members.

Both are measured in turns in one process, so that the ratio holds where the seconds do not.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.table import Table

from benchmarks.measure import seconds_of
from ntkengine import Data, Dataset, Dense, GradientDescent, Model, Quadratic, Relu, RunSpec, train
from ntkengine.dynamics import LossRecord

ROUNDS, SEEDS = 5, 100
NOTES = Data(x=[[1.0], [-1.0]], y=[[1.0], [1.0]])
DIGITS = Data(x=Dataset(name="digits", limit=200), y=Dataset(name="digits", limit=200))


@dataclass(frozen=True)
class Case:
    """A net of width 100 under gradient descent, its loss recorded at 200 moments."""

    name: str
    data: Data
    activation: Quadratic | Relu
    outputs: int
    learning_rate: float
    steps: int

    def of(self, seeds: Sequence[int]) -> RunSpec:
        """The run of those seeds."""
        model = Model(layers=(Dense(width=100, b_std=1.0), self.activation, Dense(width=self.outputs)))
        training = GradientDescent(learning_rate=self.learning_rate, steps=self.steps)
        return RunSpec(
            model=model, data=self.data, training=training, record=(LossRecord(),), seeds=tuple(seeds)
        )


CASES = (
    Case("the notes' two points, quadratic", NOTES, Quadratic(), 1, 0.01, 1000),
    Case("digits, n = 200, ReLU", DIGITS, Relu(), 10, 1e-3, 100),
)


def finished(spec: RunSpec) -> None:
    """Train to the end."""
    for _ in train(spec):
        pass


def main() -> int:
    """Print a table."""
    table = Table("width 100", "steps", "one seed s", f"{SEEDS} seeds s", "ratio", "of each round")
    for case in CASES:
        calls = [partial(finished, case.of(seeds)) for seeds in (range(1), range(SEEDS))]
        calls[0]()
        rounds = [[seconds_of(call) for call in calls] for _ in range(ROUNDS)]
        ratios = [many / one for one, many in rounds]
        table.add_row(
            case.name,
            str(case.steps),
            *(f"{statistics.median(side):.3g}" for side in zip(*rounds, strict=True)),
            f"{statistics.median(ratios):.2f}",
            ", ".join(f"{each:.2f}" for each in ratios),
        )
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
