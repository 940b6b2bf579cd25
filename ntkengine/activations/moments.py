"""Duals of polynomials from exact moments of any joint law."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING

from ntkengine.state import Dual, Joint

if TYPE_CHECKING:
    from torch import Tensor

Polynomial = tuple[float, ...]  # coefficients of 1, z, z^2, ...


def polynomial_dual(coefficients: Polynomial, joint: Joint) -> Dual:
    """`E[s(z) s(z')]` and `E[s'(z) s'(z')]` for `s(z) = sum_i coefficients[i] z^i`."""
    moments = JointMoments(joint)
    derivative = tuple(i * c for i, c in enumerate(coefficients))[1:]
    return Dual(moments.bilinear(coefficients), moments.bilinear(derivative))


class JointMoments:
    """Moments `m(i, j) = E[z^i z'^j]` of a joint law, from its cumulants, each computed once.

    For i > 0, `m(i, j) = sum_{r<i, s<=j} C(i-1, r) C(j, s) kappa(i-r, j-s) m(r, s)`, and likewise
    with the roles exchanged (McCullagh, Tensor Methods in Statistics, section 2.3).
    """

    def __init__(self, joint: Joint) -> None:
        self._joint = joint
        self._second = {(2, 0): joint.q11, (1, 1): joint.q12, (0, 2): joint.q22}
        self._known: dict[tuple[int, int], Tensor | float] = {(0, 0): 1.0}

    def bilinear(self, coefficients: Polynomial) -> Tensor:
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
