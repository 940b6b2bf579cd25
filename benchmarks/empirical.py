"""Empirical kernels beside the peers', of the same torch modules at the same weights, by every way there is.

What counts for us is what `auto` chooses; for the peers, the fastest of them.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.empirical_cases import EMPIRICAL, EmpiricalCase
from benchmarks.empirical_networks import built, save_weights
from benchmarks.measure import LONG
from benchmarks.versus import (
    NNGEOMETRY,
    TOLERANCE,
    Facts,
    Row,
    check_same,
    least_seconds,
    most_memory,
    run,
    wanted,
)

PATIENCE = 60.0  # seconds for a process, its start and compilation included
MEMORY = 0.75  # of this machine's, that a process may take
# Names of both sides, for they are those of Novak et al. (2022).
IMPLEMENTATIONS = ("structured_derivatives", "jacobian_contraction", "ntk_vector_products")
PLANNED_WELL = 1.3  # times the best of ours that what `auto` chooses may take


@dataclass
class Contender:
    """One way to the kernel, and what was measured of it; its files are in the folder."""

    side: str
    tool: str
    implementation: str
    folder: Path
    peer: Path | None = None  # the interpreter of neural-tangents
    rounds: list[Facts] = field(default_factory=list)
    failure: str = ""

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.tool} {self.implementation}".rstrip()

    @property
    def file(self) -> Path:
        """Where its kernel is."""
        return self.folder / f"{self.name}.npy"

    def measure(self, case: EmpiricalCase, patience: float, *, save: bool) -> None:
        """Once more, in a process of its own, unless it is so long that once is enough."""
        if self.failure or (least_seconds(self.rounds) or 0.0) >= LONG:
            return
        try:
            self.rounds.append(self.once([case.name], [str(self.file)] if save else [], patience))
        except RuntimeError as failed:  # for want of memory, or time, or of a form for a layer
            self.failure = str(failed)

    def once(self, case: list[str], out: list[str], patience: float) -> Facts:
        """In its own program."""
        ours = Path(sys.executable)
        limits: dict[str, Any] = {"patience": patience, "memory": MEMORY}
        if self.side == "ours":
            return run(ours, "empirical_ours", *case, self.implementation, *out, **limits)
        if self.tool == "neural-tangents" and self.peer:
            weights = str(self.folder / "weights.npz")
            return run(self.peer, "empirical_peer", *case, self.implementation, weights, *out, **limits)
        return run(ours, "empirical_torch", *case, self.tool, *out, path=NNGEOMETRY, **limits)

    def summary(self) -> Facts:
        """What the table of implementations shows."""
        return {
            "side": self.side,
            "tool": self.tool,
            "implementation": self.rounds[0].get("implementation", self.implementation)
            if self.rounds
            else self.implementation,
            "asked": self.implementation,
            "seconds": least_seconds(self.rounds),
            "peak_mb": most_memory(self.rounds),
            "failure": self.failure,
        }


def peers_of(case: EmpiricalCase, folder: Path, peer: Path | None) -> list[Contender]:
    """All ways of all tools that the case is measured by and that are installed."""
    missing = {
        name for name, there in (("neural-tangents", peer), ("nngeometry", NNGEOMETRY.exists())) if not there
    }
    found = []
    for tool in case.tools:
        ways = {"neural-tangents": IMPLEMENTATIONS[: 1 if case.memory_mb else None]}.get(tool, ("",))
        found += [Contender("peer", tool, way, folder, peer) for way in ways if tool not in missing]
    return found


def compare(case: EmpiricalCase, *, rounds: int, patience: float, peer: Path | None, alone: bool) -> Row:
    """Measure one case: ours, the peers, and again; then our other implementations, once."""
    row = Row(case.name)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_weights(built(case.network), folder / "weights.npz")
        auto = Contender("ours", "ntkengine", "auto", folder)
        peers = [] if alone else peers_of(case, folder, peer)
        for turn in range(rounds):
            for each in (auto, *peers):
                each.measure(case, patience, save=turn == 0)
        others = [Contender("ours", "ntkengine", way, folder) for way in unchosen(auto)]
        for each in others:
            each.measure(case, patience, save=True)
        fill(row, auto, peers, others)
    peak = most_memory(row.ours) or 0
    if case.memory_mb and peak > case.memory_mb:
        row.failures.append(f"it took {peak} MB of memory, more than {case.memory_mb}")
    return row


def unchosen(auto: Contender) -> list[str]:
    """The implementations that `auto` is not."""
    chosen = {facts["implementation"] for facts in auto.rounds}
    return [each for each in IMPLEMENTATIONS if each not in chosen]


def fill(row: Row, auto: Contender, peers: list[Contender], others: list[Contender]) -> None:
    """The row from what was measured, and every kernel held against ours."""
    row.ours = auto.rounds
    row.implementations = [each.summary() for each in (auto, *others, *peers)]
    row.failures += [auto.failure] if auto.failure else []
    measured = sorted((each for each in peers if each.rounds), key=seconds, reverse=True)
    if measured:
        row.peer, row.peer_name = measured[-1].rounds, measured[-1].name
    elif peers:
        row.failures += [each.failure for each in peers]
    if not auto.rounds:
        return
    ours = as_matrix(np.load(auto.file))
    tried = [each for each in others if each.rounds]
    row.planner = judged(auto, tried)
    for each in (*tried, *measured):  # the row shows the last difference, that of the fastest peer
        found = Row(each.name)
        check_same(found, ours, as_matrix(np.load(each.file)), on_diagonal=TOLERANCE)
        row.difference, row.difference_on_diagonal = found.difference, found.difference_on_diagonal
        row.failures += [f"{found.work}: {failure}" for failure in found.failures]


def judged(auto: Contender, others: list[Contender]) -> Facts:
    """What the plan chose, and how many times the best of ours it takes."""
    best = min((auto, *others), key=seconds)
    return {
        "chosen": auto.rounds[0]["implementation"],
        "best": best.summary()["implementation"],
        "chosen_over_best": seconds(auto) / seconds(best),
        "aim": PLANNED_WELL,
    }


def seconds(contender: Contender) -> float:
    """The shortest call of what was measured."""
    return least_seconds(contender.rounds) or 0.0


def as_matrix(kernel: NDArray[Any]) -> NDArray[Any]:
    """A kernel (n, n, k, k) as (n k, n k), so that its diagonal is that of a matrix; (n, n) as it is."""
    if kernel.ndim == 2:
        return kernel
    n, _, k, _ = kernel.shape
    return kernel.swapaxes(1, 2).reshape(n * k, n * k)


def rows(
    only: list[str], *, quick: bool, rounds: int, patience: float, peer: Path | None, alone: bool
) -> Iterator[Row]:
    """Measure the cases whose names have one of those words, or all; without the long ones if quick."""
    for case in EMPIRICAL:
        if wanted(case.name, case.quick, only, quick=quick):
            yield compare(case, rounds=rounds, patience=patience, peer=peer, alone=alone)
