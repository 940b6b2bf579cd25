"""Medians over seeds, exponents in the width, and how well they are known. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkengine.errors import SpecError

RESAMPLES = 9999
AT_A_TIME = 2**18  # seeds drawn, whose values a statistic holds for every width

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A median and its bootstrap interval."""

    median: float
    low: float
    high: float


class Exponent(NamedTuple):
    """A slope on log-log axes and its bootstrap interval."""

    slope: float
    low: float
    high: float


def median_interval(values: ArrayLike, *, level: float = 0.99, seed: int = 0) -> Interval:
    """The median of values (S,) over seeds with its bootstrap interval, from percentiles.

    The interval ends at the least and the largest value, outside of which the true median lies with a
    probability of 2^(1 - S): with fewer than 8 seeds none covers it in 99 % of cases, whatever its level.
    Source: Efron, "Bootstrap methods" (1979).

    Raises:
        SpecError: there are fewer than 2 values, or one is not finite.

    >>> median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    Interval(median=3.0, low=1.0, high=5.0)
    """
    known = finite(np.asarray(values, dtype=np.float64), 1)
    return Interval(*resampled(lambda at: np.median(known[at], axis=-1), len(known), level, seed))


def fit_exponent(widths: ArrayLike, values: ArrayLike, level: float = 0.99, seed: int = 0) -> Exponent:
    """The exponent p of `value ~ N^p`, by least squares on the logarithms of the medians over seeds.

    `p = sum_i (x_i - x) (z_i - z) / sum_i (x_i - x)^2` with `x_i = log N_i`, `z_i = log median_s v_is` and
    their means x, z. Its interval is the percentile bootstrap over seeds: the same seeds are drawn at every
    width, since draws are nested in the width and so not independent between widths. It is the error of
    the sample alone: that the values are no power of N is not in it.

    Args:
        widths: N (W,), two or more different ones.
        values: v (W, S), positive, of S seeds at each width.
        level: of the interval.
        seed: of the resampling.

    Raises:
        SpecError: the shapes do not fit, or a value is not positive and finite.

    >>> [round(p, 12) for p in fit_exponent([10, 100], [[3.0, 1.0, 2.0], [0.3, 0.1, 0.2]])]
    [-1.0, -1.0, -1.0]
    """
    x = np.log(np.asarray(widths, dtype=np.float64))
    known = finite(np.asarray(values, dtype=np.float64), 2)
    if len(np.unique(x)) < 2 or x.shape != known.shape[:1]:
        raise SpecError(
            f"an exponent needs at least 2 widths and values of shape (widths, seeds); got {x.shape} widths "
            f"and values of shape {known.shape}",
            hint="give a row of values for each width",
        )
    if known.min() <= 0:
        raise SpecError("a value is not positive, so it has no logarithm", hint="look at that seed")
    centred = (x - x.mean()) / ((x - x.mean()) ** 2).sum()

    def slope(at: Array) -> Array:
        return np.asarray(np.tensordot(centred, np.log(np.median(known[:, at], axis=-1)), 1))

    return Exponent(*resampled(slope, known.shape[1], level, seed))


def finite(values: Array, axes: int) -> Array:
    """Values that can be resampled along the last of their axes."""
    if values.ndim != axes or values.shape[-1] < 2 or not np.isfinite(values).all():
        raise SpecError(
            f"an interval needs finite values of at least 2 seeds; got shape {values.shape}",
            hint="leave out runs that diverged, and run more seeds",
        )
    return values


def resampled(statistic: Callable[[Any], Any], count: int, level: float, seed: int) -> Sequence[float]:
    """A statistic of all seeds, and the ends of its interval over draws of as many with replacement."""
    generator = np.random.default_rng(seed)
    resamples = generator.integers(0, count, (RESAMPLES, count))
    parts = np.array_split(resamples, -(-resamples.size // AT_A_TIME))
    draws = np.concatenate([statistic(part) for part in parts])
    tail = 0.5 * (1.0 - level)
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return float(statistic(np.arange(count))), float(low), float(high)
