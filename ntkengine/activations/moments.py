"""Duals of polynomials from exact moments of any joint law."""

from __future__ import annotations

from math import comb, factorial, sqrt
from typing import TYPE_CHECKING

from ntkengine.errors import UnsupportedError
from ntkengine.joint import Joint
from ntkengine.state import Dual

if TYPE_CHECKING:
    from torch import Tensor

MOST_FROM_CUMULANTS = 6  # beyond it, cumulants of twice the order cancel more than four digits

Coefficients = tuple[float, ...]  # coefficients of 1, z, z^2, ...


def polynomial_dual(coefficients: Coefficients, joint: Joint) -> Dual:
    """`E[s(z) s(z')]` and `E[s'(z) s'(z')]` for `s(z) = sum_i coefficients[i] z^i`."""
    if joint.higher is None:
        return gaussian_dual(coefficients, joint)
    if len(coefficients) - 1 > MOST_FROM_CUMULANTS:
        raise UnsupportedError(
            f"a polynomial of degree {len(coefficients) - 1} under a law that is not normal needs cumulants "
            f"that cancel; it is exact up to degree {MOST_FROM_CUMULANTS}",
            hint="use normal laws, or a lower degree",
        )
    moments = JointMoments(joint)
    derivative = tuple(i * c for i, c in enumerate(coefficients))[1:]
    return Dual(moments.bilinear(coefficients), moments.bilinear(derivative))


def gaussian_dual(coefficients: Coefficients, joint: Joint) -> Dual:
    """The dual under a Gaussian pair: `E[s s'] = sum_k q12^k a_k(q11) a_k(q22)`, and its derivative by q12.

    `a_k(q) = E[s^(k)(z)] / sqrt(k!)`, z of variance q (Price, 1958, applied k times; Mehler's formula): a
    sum of squares for coincident inputs, in which nothing cancels, unlike in a sum over powers of z and z'.
    """
    import torch

    degree = len(coefficients) - 1
    value, slope = torch.zeros_like(joint.q12), torch.zeros_like(joint.q12)
    for k in range(degree, -1, -1):
        both = derivative_mean(coefficients, k, joint.q11) * derivative_mean(coefficients, k, joint.q22)
        slope = slope * joint.q12 + value
        value = value * joint.q12 + both
    return Dual(value, slope)


def derivative_mean(coefficients: Coefficients, k: int, q: Tensor) -> Tensor:
    """`E[s^(k)(z)] / sqrt(k!) = sum_j coefficients[k + 2j] (k + 2j)! q^j / (2^j j! sqrt(k!))`."""
    import torch

    total = torch.zeros_like(q)
    for j in range((len(coefficients) - 1 - k) // 2, -1, -1):
        factor = factorial(k + 2 * j) / (2**j * factorial(j) * sqrt(factorial(k)))
        total = total * q + coefficients[k + 2 * j] * factor
    return total


class JointMoments:
    """Moments `m(i, j) = E[z^i z'^j]` of a joint law, from its cumulants, each computed once.

    For i > 0, `m(i, j) = sum_{r<i, s<=j} C(i-1, r) C(j, s) kappa(i-r, j-s) m(r, s)`, and likewise
    with the roles exchanged (McCullagh, Tensor Methods in Statistics, section 2.3).
    """

    def __init__(self, joint: Joint) -> None:
        self._joint = joint
        self._second = {(2, 0): joint.q11, (1, 1): joint.q12, (0, 2): joint.q22}
        self._known: dict[tuple[int, int], Tensor | float] = {(0, 0): 1.0}

    def bilinear(self, coefficients: Coefficients) -> Tensor:
        """`sum_ij c_i c_j m(i, j)`, of the shape of q12."""
        import torch

        total = torch.zeros_like(self._joint.q12)
        for i, a in enumerate(coefficients):
            for j, b in enumerate(coefficients):
                if a and b:
                    total = total + a * b * self.moment(i, j)
        return total

    def moment(self, i: int, j: int) -> Tensor | float:
        if (i + j) % 2:
            return 0.0  # every law is symmetric
        if (i, j) not in self._known:
            self._known[i, j] = self._recursion(i, j)
        return self._known[i, j]

    def _recursion(self, i: int, j: int) -> Tensor | float:
        swapped = i == 0  # then expand in z' instead
        outer, inner = (j, i) if swapped else (i, j)
        total: Tensor | float = 0.0
        for r in range(outer):
            for s in range(inner + 1):
                lower = (s, r) if swapped else (r, s)
                kappa = self._cumulant(i - lower[0], j - lower[1])
                total = total + comb(outer - 1, r) * comb(inner, s) * kappa * self.moment(*lower)
        return total

    def _cumulant(self, i: int, j: int) -> Tensor | float:
        if (i + j) % 2:
            return 0.0
        if i + j == 2:
            return self._second[i, j]
        higher = self._joint.higher
        return 0.0 if higher is None else higher(i, j)
