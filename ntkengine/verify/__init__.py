"""The numbers that this engine is held to, as one table: what is claimed, and what is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

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


def verify(effort: Effort = FULL, only: str = "") -> Iterator[Line]:
    """Measure the claims one by one; with `only`, those whose name has these words.

    >>> from ntkengine.verify import verify, QUICK
    >>> [line.holds for line in verify(QUICK, only="singular")]
    [True]
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the work is small: more threads only wait for each other
    try:
        for claim in claims():
            if only.lower() in claim.about.lower():
                begin = time.perf_counter()
                found = claim.measure(effort)
                spent = time.perf_counter() - begin
                yield Line(claim.about, claim.expected, found.measured, found.holds, spent)
    finally:
        torch.set_num_threads(threads)
