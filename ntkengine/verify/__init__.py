"""The numbers that this engine is held to, as one table: what is claimed, and what is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby, repeat
from multiprocessing import get_context

from ntkengine.verify.claim import FULL, QUICK, Claim, Effort, Found

__all__ = ["FULL", "QUICK", "Claim", "Effort", "Found", "Line", "claims", "verify"]


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    about: str
    expected: str
    measured: str
    holds: bool
    seconds: float


def claims() -> tuple[Claim, ...]:
    """All of them, in the order of the table."""
    from ntkengine.verify import ensembles, exact, regimes, scaling

    return (*exact.CLAIMS, *scaling.CLAIMS, *regimes.CLAIMS, *ensembles.CLAIMS)


def verify(effort: Effort = FULL, only: str = "", processes: int = 1) -> Iterator[Line]:
    """Measure the claims, in as many processes; with `only`, those whose name has these words.

    The lines come in the order of the table, each as soon as it and those before it are measured.

    >>> from ntkengine.verify import verify, QUICK
    >>> [line.holds for line in verify(QUICK, only="singular")]
    [True]
    """
    chosen = [(at, each) for at, each in enumerate(claims()) if only.lower() in each.about.lower()]
    groups: list[list[int]] = [
        [at for at, _ in group] for _, group in groupby(chosen, lambda each: each[1].run or each[0])
    ]
    if processes == 1:
        for group in groups:
            yield from measured(group, effort)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for lines in pool.map(measured, groups, repeat(effort)):
            yield from lines


def measured(numbers: Sequence[int], effort: Effort) -> list[Line]:
    """The lines of the claims with those numbers."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the work is small: more threads only wait for each other
    try:
        return [line_of(claims()[number], effort) for number in numbers]
    finally:
        torch.set_num_threads(threads)


def line_of(claim: Claim, effort: Effort) -> Line:
    """A claim, measured."""
    begin = time.perf_counter()
    found = claim.measure(effort)
    return Line(claim.about, claim.expected, found.measured, found.holds, time.perf_counter() - begin)
