"""A claim: a number or an interval that the theory or another program states, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Effort:
    """How many networks are trained: less is quicker, and intervals are as wide as that leaves them."""

    seeds: int
    """Seeds of a median or an exponent."""
    widths: tuple[int, ...]
    """Widths of an exponent."""
    networks: int
    """Networks of an average."""
    wide: int
    """Width of the networks of an average."""
    widen: float
    """How much wider than with full effort the interval of an exponent is, on both sides."""


FULL = Effort(seeds=40, widths=(32, 64, 128, 256, 512, 1024, 2048), networks=1000, wide=2048, widen=0.0)
QUICK = Effort(seeds=10, widths=(32, 128, 512), networks=200, wide=512, widen=0.1)


@dataclass(frozen=True)
class Found:
    """What was measured, in words, and whether the claim holds."""

    measured: str
    holds: bool


@dataclass(frozen=True)
class Claim:
    """One line of the table."""

    about: str
    """What the number is of."""
    expected: str
    measure: Callable[[Effort], Found]
    run: str = ""
    """Claims with the same run share its networks, which are trained once, in one process."""


def equal(value: Any, expected: Any, rtol: float, digits: int = 6) -> Found:
    """Whether all numbers agree, relative to the largest one expected."""
    got, wanted = np.asarray(value, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    off = float(np.abs(got - wanted).max() / np.abs(wanted).max())
    return Found(f"{numbers(got, digits)} (off by {off:.1e})", off <= rtol)


def below(value: float, most: float) -> Found:
    """Whether an error is small enough."""
    return Found(f"{value:.1e}", value <= most)


def inside(value: float, low: float, high: float) -> Found:
    """Whether a number lies in an interval."""
    return Found(f"{value:.4g}", low <= value <= high)


def numbers(values: Any, digits: int = 6) -> str:
    """Numbers for people."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return ", ".join(f"{value:.{digits}g}" for value in flat)


def every(found: Sequence[Found]) -> Found:
    """All of several."""
    return Found("; ".join(each.measured for each in found), all(each.holds for each in found))
