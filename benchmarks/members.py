"""What many seeds cost that train together, beside one alone: python -m benchmarks.members.

Both are measured in turns in one process, so that the ratio holds where the seconds do not.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from benchmarks.measure import seconds_of
from ntkengine import Data, Dataset, Dense, GradientDescent, Model, Quadratic, Relu, RunSpec, train
from ntkengine.dynamics import LossRecord

ROUNDS, STEPS, SEEDS = 5, 200, 100
NOTES = Data(x=[[1.0], [-1.0]], y=[[1.0], [1.0]])
DIGITS = Data(x=Dataset(name="digits", limit=200), y=Dataset(name="digits", limit=200))


def run(data: Data, activation: Quadratic | Relu, outputs: int, rate: float, seeds: Sequence[int]) -> RunSpec:
    """A net of width 100 under gradient descent, its loss recorded at start and end."""
    model = Model(layers=(Dense(width=100, b_std=1.0), activation, Dense(width=outputs)))
    training = GradientDescent(learning_rate=rate, steps=STEPS)
    return RunSpec(model=model, data=data, training=training, record=(LossRecord(),), seeds=tuple(seeds))


def finished(spec: RunSpec) -> None:
    """Train to the end."""
    for _ in train(spec):
        pass


def cases() -> Iterator[tuple[str, RunSpec, RunSpec]]:
    """Name, one seed, and all of them."""
    for name, data, activation, outputs, rate in (
        ("the notes' two points, quadratic", NOTES, Quadratic(), 1, 0.01),
        ("digits, n = 200, ReLU", DIGITS, Relu(), 10, 1e-3),
    ):
        yield (
            name,
            run(data, activation, outputs, rate, [0]),
            run(data, activation, outputs, rate, range(SEEDS)),
        )


def main() -> int:
    """Print a table."""
    table = Table(f"{STEPS} steps, width 100", "one seed s", f"{SEEDS} seeds s", "ratio", "of each round")
    for name, one, many in cases():
        finished(one)
        calls = partial(finished, one), partial(finished, many)
        rounds = [[seconds_of(call) for call in calls] for _ in range(ROUNDS)]
        ratios = [each[1] / each[0] for each in rounds]
        table.add_row(
            name,
            *(f"{statistics.median(side):.3g}" for side in zip(*rounds, strict=True)),
            f"{statistics.median(ratios):.2f}",
            ", ".join(f"{each:.2f}" for each in ratios),
        )
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
