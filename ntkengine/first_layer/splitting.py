"""Expectations of piecewise polynomials of two variables, exact: one input dimension and a bias.

`z = m u + o v` with independent u and v. For fixed v, both z and z' cross a kink at known values of u, and
between these `E[s(z) s(z')]` is a sum of truncated moments of u, a smooth function of v but where two kinks
cross or one meets an end of a panel of u's law: there the panels of a Gauss-Legendre rule in v end. For
uniform laws the integrand on a panel is a polynomial, and the rule has no error but rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ntkengine.first_layer.preactivation import Preactivation
from ntkengine.first_layer.profile import PiecewisePolynomial, Profile
from ntkengine.laws import Law, Zero

if TYPE_CHECKING:
    from ntkengine.first_layer.profile import Pointwise

Array = NDArray[np.float64]

HIGHEST = 6  # degree; beyond it, truncated moments of twice the order cancel more than four digits
CHUNK = 2**17  # pairs times nodes at a time


@dataclass(frozen=True)
class Line:
    """`z = slope u + offset v`, for arrays of pairs (n, 1)."""

    slope: Array
    offset: Array

    def meets(self, z: float, u: Array) -> Array:
        """The v at which z is met at u."""
        return ratio(z - self.slope * u, self.offset)

    def cut(self, z: float, v: Array) -> Array:
        """The u at which z is met at v; 0, where nothing changes, if no u matters."""
        return ratio(z - self.offset * v, self.slope)

    def crossing(self, z: float, other: Line, other_z: float) -> Array:
        """The v at which this line has value z and the other its value for the same u."""
        determinant = self.offset * other.slope - other.offset * self.slope
        return ratio(z * other.slope - other_z * self.slope, determinant)


@dataclass(frozen=True)
class Plane:
    """The laws of u and v, and how z comes from them."""

    inner: Law
    outer: Law
    weight_is_inner: bool
    preactivation: Preactivation

    @classmethod
    def of(cls, preactivation: Preactivation, top: int) -> Plane | None:
        """u has the law with fewer panels, or the density where v has few values; None where the panels of
        a law do not reach as far as moments of order `top` are made."""
        weight, bias = preactivation.W_law, preactivation.b_law or Zero()
        laws = {True: weight, False: bias}
        if any(len(law.edges(top)) == 0 for law in laws.values()):
            return None
        inner = min(laws, key=lambda which: (bool(laws[which].atoms), len(laws[which].edges(top))))
        return cls(laws[inner], laws[not inner], inner, preactivation)

    def order(self, top: int) -> int:
        """Nodes of a panel in v; where the integrand is a polynomial, its degree is top + 1 at most."""
        return max(self.inner.panel_order(top + 1), self.outer.panel_order(top + 1))

    def line(self, x: Array) -> Line:
        weight = self.preactivation.W_factor * x[:, None]
        bias = np.full_like(weight, self.preactivation.b_factor)
        return Line(weight, bias) if self.weight_is_inner else Line(bias, weight)


def ratio(numerator: Array, denominator: Array) -> Array:
    """The ratio, 0 where the denominator is."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def plane_of(profile: Profile, preactivation: Preactivation, dimension: int) -> Plane | None:
    """The plane on which the expectations of that activation are exact, if there is one."""
    if dimension != 1 or profile.pieces is None or profile.pieces.degree > HIGHEST:
        return None
    return Plane.of(preactivation, 2 * profile.pieces.degree)


def split_expectations(profile: Profile, plane: Plane, x1: Array, x2: Array) -> tuple[Array, Array]:
    """`E[s(z(x1)) s(z(x2))]` and `E[s'(z(x1)) s'(z(x2))]` for pairs of inputs, each (n,)."""
    if profile.pieces is None:
        raise ValueError("no piecewise polynomial")
    curves = (profile.pieces, profile.function), (profile.pieces.derivative(), profile.derivative)
    top = 2 * profile.pieces.degree
    out = np.empty((2, len(x1)))
    with np.errstate(over="ignore", invalid="ignore"):  # kinks far out: their mass is 0
        for part in chunks(plane, profile.pieces.kinks, top, len(x1)):
            lines = plane.line(x1[part]), plane.line(x2[part])
            ends = breaks(plane, lines, profile.pieces.kinks, top)
            v, weights = plane.outer.nodes(ends, plane.order(top), top)
            strips = Strips.of(plane.inner, lines, v, profile.pieces.kinks, top)
            for row, (pieces, function) in zip(out, curves, strict=True):
                row[part] = (weights * strips.expectation(pieces, function)).sum(-1)
    return out[0], out[1]


def chunks(plane: Plane, kinks: tuple[float, ...], top: int, count: int) -> Iterator[slice]:
    """Runs of pairs of bounded memory."""
    ends = 2 * len(kinks) * len(plane.inner.edges(top)) + len(kinks) ** 2 + len(plane.outer.edges(top))
    size = max(1, CHUNK // (plane.order(top) * ends))
    return (slice(start, start + size) for start in range(0, count, size))


def breaks(plane: Plane, lines: tuple[Line, Line], kinks: tuple[float, ...], top: int) -> Array:
    """Where in v the inner expectation is not smooth, (n, breaks)."""
    u = plane.inner.edges(top)
    meeting = [line.meets(kink, u) for line in lines for kink in kinks]
    crossing = [lines[0].crossing(one, lines[1], other) for one in kinks for other in kinks]
    return np.concatenate([np.zeros_like(lines[0].slope), *meeting, *crossing], axis=1)


@dataclass(frozen=True)
class Strips:
    """The parts of the line of u on which neither z nor z' meets a kink, at each v (n, m): a middle of each,
    (strips, n, m), and `E[u^j]` over it, (top + 1, strips, n, m)."""

    lines: tuple[Line, Line]
    v: Array
    middles: Array
    masses: Array

    @classmethod
    def of(cls, law: Law, lines: tuple[Line, Line], v: Array, kinks: tuple[float, ...], top: int) -> Strips:
        cuts = np.sort(np.stack([line.cut(kink, v) for line in lines for kink in kinks] or [0.0 * v]), axis=0)
        first, last = cuts[:1], cuts[-1:]
        inner = 0.5 * (cuts[:-1] + cuts[1:])
        middles = np.concatenate([first - 1.0 - np.abs(first), inner, last + 1.0 + np.abs(last)])
        below = law.partial_moments(cuts, top)
        whole = np.array([law.moment(j) for j in range(top + 1)]).reshape(-1, 1, 1, 1)
        ends = np.concatenate([0.0 * below[:, :1], below, np.broadcast_to(whole, below[:, :1].shape)], axis=1)
        return cls(lines, v, middles, np.diff(ends, axis=1))

    def expectation(self, pieces: PiecewisePolynomial, function: Pointwise) -> Array:
        """`E[p(z) p(z')]` over u at each v, for the function p of those pieces, (n, m)."""
        first, second = (self.polynomial(line, pieces, function) for line in self.lines)
        total = np.zeros_like(self.v)
        for i, a in enumerate(first):
            for j, b in enumerate(second):
                total += (a * b * self.masses[i + j]).sum(0)
        return total

    def polynomial(self, line: Line, pieces: PiecewisePolynomial, function: Pointwise) -> list[Array]:
        """The coefficients of 1, u, u^2, ... on each strip."""
        shift = line.offset * self.v
        z = line.slope * self.middles + shift
        index = sum((z > kink for kink in pieces.kinks), np.zeros(z.shape, dtype=int))
        rows = (np.pad(piece, (0, pieces.degree + 1 - len(piece))) for piece in pieces.coefficients)
        table = np.stack(list(rows))
        result = [table[index, pieces.degree]]
        for degree in range(pieces.degree - 1, -1, -1):  # Horner's rule, for z = slope u + shift
            higher = [line.slope * c for c in result]
            result = [shift * c for c in result]
            result[0] = result[0] + table[index, degree]
            middle = (a + b for a, b in zip(result[1:], higher[:-1], strict=True))
            result = [result[0], *middle, higher[-1]]
        return self.constant(line, shift, function, result)

    def constant(self, line: Line, shift: Array, function: Pointwise, result: list[Array]) -> list[Array]:
        """The coefficients; where z does not depend on u, and may be a kink, the function's own value."""
        import torch

        still = np.broadcast_to(line.slope == 0, shift.shape)
        if not still.any():
            return result
        values = function(torch.from_numpy(np.ascontiguousarray(shift))).numpy()
        return [np.where(still, values, result[0]), *(np.where(still, 0.0, c) for c in result[1:])]
