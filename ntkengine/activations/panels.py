"""Panels of the real line on each of which a function is a polynomial, nearly.

Quadrature over such panels sees a smooth function: kinks that were stated are ends of panels, others are
closed in on by bisection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from ntkengine.errors import NumericalError

if TYPE_CHECKING:
    from torch import Tensor

    Pointwise = Callable[[Tensor], Tensor]

Array = NDArray[np.float64]

ORDER = 16  # Gauss-Legendre nodes of a panel: exact to degree 31
SMOOTH = 1e-10  # relative misfit of the polynomial of degree 15; the quadrature's error is far below
MOST = 400  # panels of one function
SMALLEST = 2.0**-8  # the panels next to 0 that a function is first looked at on
NEAR = 1e-3  # of a panel's width around its end: what is rough there is a kink
CLOSEST = 1e-8  # relative to the place
NARROWEST = 1e-15  # of a panel, relative to its place: a jump is inside
X, _ = legendre.leggauss(ORDER)
TO_COEFFICIENTS = np.linalg.inv(legendre.legvander(X, ORDER - 1))


@dataclass(frozen=True)
class Curve:
    """A function with its derivative, and the places where either is not smooth."""

    function: Pointwise
    derivative: Pointwise
    kinks: tuple[float, ...] = ()

    def values(self, z: Array) -> Array:
        """Function and derivative at z, stacked.

        Raises:
            NumericalError: one of them is not finite.
        """
        import torch

        at = torch.as_tensor(z)
        values = np.stack([each(at).numpy(force=True) for each in (self.function, self.derivative)])
        if not np.isfinite(values).all():
            where = float(np.abs(z[~np.isfinite(values).all(axis=0)]).min())
            raise NumericalError(
                f"the activation or its derivative is not finite at distance {where:.3g} from 0",
                hint="expectations over a normal law need finite values; scale the inputs or weights down",
            )
        return values


@dataclass(frozen=True)
class Splits:
    """Ends of panels inside an interval, ascending; kinks, stated or found; and the places around which the
    function changes most: kinks, and the middles of panels narrower than their neighbours. Wide smoothing
    sees these alone."""

    places: Array
    kinks: Array
    centres: Array

    @property
    def narrowest(self) -> float:
        """The width of the narrowest panel between two others."""
        return float(np.diff(self.places).min(initial=np.inf))


def splits(curve: Curve, reach: float) -> Splits:
    """Panels that make the curve smooth on [-reach, reach].

    Raises:
        NumericalError: the curve varies too often on that interval, or is not finite there.
    """
    count = max(1, int(np.ceil(np.log(reach / SMALLEST) / np.log(4.0))))
    graded = SMALLEST * 4.0 ** np.arange(count)
    inner = {place for place in (0.0, *graded, *-graded, *curve.kinks) if abs(place) < reach}
    ends = np.array([-reach, *sorted(inner), reach])
    heights = Heights(curve, ends)
    ends = merged(heights, refined(heights, ends), curve.kinks)
    places, width = ends[1:-1], np.diff(ends)
    narrow = 1 + np.flatnonzero((width[1:-1] <= width[:-2]) & (width[1:-1] < width[2:]))
    close = NEAR * np.minimum(width[:-1], width[1:])
    wide = close > CLOSEST * np.abs(places)  # a narrower panel is among the narrow ones
    at, close = places[wide], close[wide]
    kinks = at[heights.rough(at - close, at, at + close)]
    centres = np.unique([*kinks, *(0.5 * (ends[narrow] + ends[narrow + 1]))])
    return Splits(places, np.unique([*kinks, *curve.kinks]), centres)


class Heights:
    """How large function and derivative get up to a distance from 0: what misfits are relative to."""

    def __init__(self, curve: Curve, ends: Array) -> None:
        self.curve = curve
        middles = 0.5 * (ends[:-1] + ends[1:])
        places = np.concatenate([ends, middles])
        order = np.abs(places).argsort()
        self.distances = np.abs(places)[order]
        self.largest = np.maximum.accumulate(np.abs(curve.values(places))[:, order], axis=1)

    def rough(self, low: Array, middle: Array, high: Array) -> NDArray[np.bool_]:
        """Whether a panel is no polynomial, by its nodes and those of its parts around the middle."""
        known = self.curve.values(nodes(low, high))
        coefficients = known @ TO_COEFFICIENTS.T
        parts = np.concatenate([nodes(low, middle), nodes(middle, high)], axis=-1)
        places = (2.0 * parts - low[:, None] - high[:, None]) / (high - low)[:, None]
        fitted = np.einsum("pnk,fpk->fpn", legendre.legvander(places, ORDER - 1), coefficients)
        misfit = np.abs(fitted - self.curve.values(parts)).max(axis=-1)
        # four times as far out, or values next to a root would be held to their own rounding
        farthest = 4.0 * np.maximum(np.abs(low), np.abs(high))
        reached = np.searchsorted(self.distances, farthest, side="right") - 1
        height = np.maximum(self.largest[:, reached], np.abs(known).max(axis=-1))
        return np.asarray((misfit > SMOOTH * height).any(axis=0))


def nodes(low: Array, high: Array) -> Array:
    """Gauss-Legendre nodes of panels, (panels, nodes)."""
    return np.asarray(0.5 * (low + high)[:, None] + 0.5 * (high - low)[:, None] * X)


def refined(heights: Heights, ends: Array) -> Array:
    """Ends of panels, rough ones bisected."""
    low, high = ends[:-1], ends[1:]
    kept = [ends]
    while len(low):
        middle = 0.5 * (low + high)
        wide = high - low > NARROWEST * np.maximum(np.maximum(np.abs(low), np.abs(high)), SMALLEST)
        rough = heights.rough(low, middle, high) & wide
        low, middle, high = low[rough], middle[rough], high[rough]
        kept.append(middle)
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        if sum(map(len, kept)) > MOST:
            raise NumericalError(
                f"the activation varies too often for a numeric dual: {MOST} panels up to {ends[-1]:.3g}",
                hint="scale its inputs down, state its kinks, or use an activation with a closed form",
            )
    return np.sort(np.concatenate(kept))


def merged(heights: Heights, ends: Array, kinks: tuple[float, ...]) -> Array:
    """Ends of panels, neighbours that make one polynomial joined."""
    offset, idle = 0, 0
    while idle < 2:
        inner = np.arange(1 + offset, len(ends) - 1, 2)
        inner = inner[~np.isin(ends[inner], kinks)]
        joined = inner[~heights.rough(ends[inner - 1], ends[inner], ends[inner + 1])] if len(inner) else inner
        ends = np.delete(ends, joined)
        idle = 0 if len(joined) else idle + 1
        offset = 1 - offset
    return ends
