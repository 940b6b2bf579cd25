"""Empirical kernels beside neural-tangents', at the same weights, by every implementation of both sides.

What counts for us is what `auto` chooses; for the peer, the faster of its two. Its Jacobians of the
MLP take 12 GB of memory.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import EMPIRICAL, EmpiricalCase
from benchmarks.measure import LONG
from benchmarks.versus import (
    ROUNDS,
    TOLERANCE,
    Facts,
    Row,
    check_same,
    least_seconds,
    most_memory,
    run,
    wanted,
)

PATIENCE = 200.0  # seconds for a process; what `auto` does not choose may take minutes, which says enough
# Names of both sides, for they are those of Novak et al. (2022).
IMPLEMENTATIONS = ("structured_derivatives", "jacobian_contraction")


@dataclass
class Contender:
    """One implementation of one side, and what was measured of it; its files are in the folder."""

    side: str
    python: Path
    implementation: str
    folder: Path
    rounds: list[Facts] = field(default_factory=list)
    failure: str = ""

    @property
    def file(self) -> Path:
        """Where its kernel is."""
        return self.folder / f"{self.side}-{self.implementation}.npy"

    def measure(self, case: EmpiricalCase, *, save: bool) -> None:
        """Once more, in a process of its own, unless it is so long that once is enough."""
        if self.failure or (least_seconds(self.rounds) or 0.0) >= LONG:
            return
        arguments = [case.name, self.implementation, str(self.folder / "weights.npz")]
        arguments += [str(self.file)] if save else []
        try:
            self.rounds.append(run(self.python, f"empirical_{self.side}", *arguments, patience=PATIENCE))
        except RuntimeError as failed:  # for want of memory, or time; there are others
            self.failure = str(failed)

    def summary(self) -> Facts:
        """What the table of implementations shows."""
        return {
            "side": self.side,
            "implementation": self.rounds[0]["implementation"] if self.rounds else self.implementation,
            "asked": self.implementation,
            "seconds": least_seconds(self.rounds),
            "peak_mb": most_memory(self.rounds),
            "failure": self.failure,
        }


def compare(case: EmpiricalCase, *, rounds: int, peer: Path | None) -> Row:
    """Measure one case: ours, the peer's two, and again; then our others, once."""
    row = Row(case.name)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        auto = Contender("ours", Path(sys.executable), "auto", folder)
        peers = [Contender("peer", peer, each, folder) for each in IMPLEMENTATIONS if peer]
        for turn in range(rounds):
            for each in (auto, *peers):
                each.measure(case, save=turn == 0)
        others = [Contender("ours", Path(sys.executable), each, folder) for each in unchosen(auto)]
        for each in others:
            each.measure(case, save=True)
        fill(row, auto, peers, others)
    return row


def unchosen(auto: Contender) -> list[str]:
    """The implementations that `auto` is not."""
    return [
        each for each in IMPLEMENTATIONS if each not in {facts["implementation"] for facts in auto.rounds}
    ]


def fill(row: Row, auto: Contender, peers: list[Contender], others: list[Contender]) -> None:
    """The row from what was measured, and every kernel held against ours."""
    measured = [each for each in peers if each.rounds]
    row.ours = auto.rounds
    row.implementations = [each.summary() for each in (auto, *others, *peers)]
    row.failures += [auto.failure] if auto.failure else []
    if peers and not measured:
        row.failures += [each.failure for each in peers]
    if not auto.rounds:
        return
    row.peer = min((each.rounds for each in measured), key=seconds, default=[])
    ours = as_matrix(np.load(auto.file))
    measured.sort(key=lambda each: seconds(each.rounds), reverse=True)  # the row shows the last difference
    for each in (*(each for each in others if each.rounds), *measured):
        found = Row(f"{each.side}, {each.implementation}")
        check_same(found, ours, as_matrix(np.load(each.file)), on_diagonal=TOLERANCE)
        row.difference, row.difference_on_diagonal = found.difference, found.difference_on_diagonal
        row.failures += [f"{found.work}: {failure}" for failure in found.failures]


def seconds(rounds: list[Facts]) -> float:
    """The shortest call of what was measured."""
    return least_seconds(rounds) or 0.0


def as_matrix(kernel: NDArray[Any]) -> NDArray[Any]:
    """A kernel (n, n, k, k) as (n k, n k), so that its diagonal is that of a matrix; (n, n) as it is."""
    if kernel.ndim == 2:
        return kernel
    n, _, k, _ = kernel.shape
    return kernel.swapaxes(1, 2).reshape(n * k, n * k)


def rows(only: list[str], *, quick: bool, peer: Path | None) -> Iterator[Row]:
    """Measure the cases whose names have one of those words, or all; without the long ones if quick."""
    for case in EMPIRICAL:
        if wanted(case.name, case.of.quick, only, quick=quick):
            yield compare(case, rounds=1 if quick else ROUNDS, peer=peer)
