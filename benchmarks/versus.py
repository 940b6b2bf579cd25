"""Our kernels beside neural-tangents', each measured in fresh processes that take turns."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CASES, STORED, Case
from benchmarks.measure import LONG

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers"
NNGEOMETRY = PEERS / "nngeometry"  # a folder of packages for our interpreter
THREADS = 2
# How far two kernels may be apart, over the largest entry. Of the peer's that come here, the one that adds up
# all pairs of 256 positions is 8e-6 from float64 (ours 4e-7), others 3e-7; on the diagonal, where it takes
# arccosines of numbers that are 1 up to rounding, it is 7e-4 from float64 (ours 3e-7).
TOLERANCE, DIAGONAL = 3e-5, 1e-3
Facts = dict[str, Any]


@dataclass
class Row:
    """What was measured of one case. Seconds are the least of all rounds, memory the most."""

    work: str
    ours: list[Facts] = field(default_factory=list)
    peer: list[Facts] = field(default_factory=list)
    floor: list[Facts] = field(default_factory=list)
    difference: float | None = None
    difference_on_diagonal: float | None = None
    not_yet: str = ""
    failures: list[str] = field(default_factory=list)
    peer_name: str = "neural-tangents"
    implementations: list[Facts] = field(default_factory=list)  # where a side has several
    planner: Facts | None = None  # what it chose of ours

    def summary(self) -> Facts:
        """What the table shows, and the rest."""
        ours, peer, floor = (least_seconds(each) for each in (self.ours, self.peer, self.floor))
        return {
            "work": self.work,
            "ours_seconds": ours,
            "peer_name": self.peer_name if self.peer else None,
            "peer_seconds": peer,
            "peer_over_ours": quotient(peer, ours),
            "ours_peak_mb": most_memory(self.ours),
            "peer_peak_mb": most_memory(self.peer),
            "floor_seconds": floor,
            "ours_over_floor": quotient(ours, floor),
            "difference": self.difference,
            "difference_on_diagonal": self.difference_on_diagonal,
            "not_yet": self.not_yet,
            "failures": self.failures,
            "implementations": self.implementations,
            "planner": self.planner,
            "rounds": {"ours": self.ours, "peer": self.peer, "floor": self.floor},
        }


def least_seconds(rounds: list[Facts]) -> float | None:
    """The shortest call."""
    return min((seconds for facts in rounds for seconds in facts["seconds"]), default=None)


def most_memory(rounds: list[Facts]) -> int | None:
    """The highest peak."""
    return max((facts["peak_mb"] for facts in rounds), default=None)


def quotient(a: float | None, b: float | None) -> float | None:
    """Of what is known."""
    return None if a is None or b is None else a / b


def peer_python() -> Path | None:
    """The interpreter of the peer's environment, where it was built."""
    return PEERS / "bin" / "python" if (PEERS / "ready").exists() else None


def run(
    python: Path,
    module: str,
    *arguments: str,
    patience: float | None = None,
    memory: float | None = None,
    path: Path | None = None,
) -> Facts:
    """What a measurement in a process of its own prints, on as many CPUs as all others.

    Args:
        patience: seconds that it may take, its start included.
        memory: the share of this machine's that it may take.
        path: where it finds more packages.

    Raises:
        RuntimeError: it failed, or took more.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "JAX_PLATFORMS": "cpu"}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), *environment.get("PYTHONPATH", "").split()])
    command = [str(python), "-m", f"benchmarks.{module}", *arguments]
    if memory is not None:
        command = ["bash", "-c", f'ulimit -d {memory_kb(memory)} && exec "$@"', "bash", *command]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=patience
        )
    except subprocess.TimeoutExpired as late:
        raise RuntimeError(f"> {patience:.0f} s") from late
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{module} failed ({done.returncode}): {last}")
    facts: Facts = json.loads(done.stdout.splitlines()[-1])
    return facts


def memory_kb(share: float) -> int:
    """A share of this machine's memory, in units of 1024 bytes."""
    return int(share * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) // 1024


def compare(case: Case, *, rounds: int, peer: Path | None) -> Row:
    """Measure one case: ours, the peer, the floor, and again."""
    row = Row(case.name)
    try:
        with tempfile.TemporaryDirectory() as folder:
            take_turns(case, row, rounds, peer, Path(folder))
    except RuntimeError as failed:
        row.failures.append(str(failed))
    return row


def take_turns(case: Case, row: Row, rounds: int, peer: Path | None, folder: Path) -> None:
    """Fill the row, and compare the kernels of the first round."""
    files = [str(folder / "ours.npy"), str(folder / "peer.npy")]
    for turn in range(rounds):
        ours = run(Path(sys.executable), "ours", case.name, *files[: turn == 0])
        if "not_yet" in ours:
            row.not_yet = ours["not_yet"]
            return
        row.ours.append(ours)
        if peer and (least_seconds(row.peer) or 0.0) < LONG:
            row.peer.append(run(peer, "peer", case.name, *files[1 : 1 + (turn == 0)]))
        if case.relu_layers:
            row.floor.append(run(Path(sys.executable), "floor", case.name))
        if peer and turn == 0:
            check_same(row, *(np.load(file) for file in files))


def check_same(row: Row, ours: Any, theirs: Any, *, on_diagonal: float = DIAGONAL) -> None:
    """Both are the same kernel, on the diagonal and off it."""
    error = np.abs(ours - theirs) / np.abs(theirs).max()
    row.difference_on_diagonal = float(np.diag(error).max())
    np.fill_diagonal(error, 0.0)
    row.difference = float(error.max())
    if not row.difference <= TOLERANCE:
        row.failures.append(f"the kernels differ by {row.difference:.2g}, more than {TOLERANCE:.2g}")
    if not row.difference_on_diagonal <= on_diagonal:
        row.failures.append(
            f"the diagonals differ by {row.difference_on_diagonal:.2g}, more than {on_diagonal:.2g}"
        )


def store() -> Row:
    """The kernel that goes to disk: ours alone, once."""
    row = Row(STORED.name)
    try:
        facts = run(Path(sys.executable), "stored", STORED.name)
    except RuntimeError as failed:
        row.failures.append(str(failed))
        return row
    row.ours.append(facts)
    row.difference = facts["difference"]
    if not facts["difference"] <= TOLERANCE:
        row.failures.append(f"what was stored differs by {facts['difference']:.2g} from the same in memory")
    return row


def rows(only: list[str], *, quick: bool, rounds: int, peer: Path | None) -> Iterator[Row]:
    """Measure the cases whose names have one of those words, or all; without the long ones if quick."""
    for case in CASES:
        if wanted(case.name, case.quick, only, quick=quick):
            yield compare(case, rounds=rounds, peer=peer)
    if wanted(STORED.name, STORED.quick, only, quick=quick):
        yield store()


def wanted(name: str, short: bool, only: list[str], *, quick: bool) -> bool:
    """Whether a case was asked for, which is `short` enough for the quick form or not."""
    named = not only or any(word in name for word in only)
    return named and (short or not quick)
