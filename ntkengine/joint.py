"""The joint law of two pre-activations, and its determinant carried along without cancellation.

Where two inputs nearly coincide, or nearly oppose each other, a rounded cosine does not hold the angle that a
kink needs; the determinant `q11 q22 - q12^2` does, if it is never taken as that difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

CumulantRule = Callable[[int, int], "Tensor | float"]


@dataclass(frozen=True)
class Joint:
    """The joint law of a pair (z, z') of pre-activations with mean 0, batched elementwise.

    `q11 = E[z^2]`, `q12 = E[z z']`, `q22 = E[z'^2]`, tensors that broadcast against each other.
    `higher(i, j)` is the joint cumulant of i copies of z and j of z', i + j > 2; None where the
    law is Gaussian and they vanish. `det` is `q11 q22 - q12^2` where it is known better than by this.
    """

    q11: Tensor
    q12: Tensor
    q22: Tensor
    higher: CumulantRule | None = None
    det: Tensor | None = None

    def determinant(self) -> Tensor:
        """`q11 q22 - q12^2`, not negative."""
        if self.det is not None:
            return self.det
        return (self.q11 * self.q22 - self.q12 * self.q12).clamp_(min=0.0)


class Near(NamedTuple):
    """Pairs of inputs (rows[k], columns[k]) that nearly coincide, or nearly oppose each other."""

    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, joint: Joint, nearness: float, *, once: bool) -> Near | None:
        """Those with a cosine within `nearness` of 1 or -1; if `once`, those above the diagonal alone.

        Args:
            joint: of the pairs (n1, n2), with variances (n1, 1) and (1, n2).
        """
        lengths = joint.q11.sqrt() * ((1.0 - nearness) * joint.q22.sqrt())
        near = joint.q12.abs() > lengths
        if once:
            near = near.triu_(1)
        return cls(*near.nonzero(as_tuple=True)) if bool(near.any()) else None

    def moved(self, rows: int, columns: int) -> Near:
        """The same pairs, counted from before that many rows and columns."""
        return Near(self.rows + rows, self.columns + columns)


def determinant_of_rows(x1: Tensor, x2: Tensor) -> Tensor:
    """`q11 q22 - q12^2` of the moments of each row of x1 (n, d) and of x2, from the difference and the sum of
    their directions, so that it keeps its digits where they coincide or oppose each other."""
    import torch

    norms = [torch.linalg.vector_norm(x, dim=1) for x in (x1, x2)]
    u, v = (x / torch.where(norm > 0, norm, 1.0)[:, None] for x, norm in zip((x1, x2), norms, strict=True))
    sine: Tensor = torch.linalg.vector_norm(u - v, dim=1) * torch.linalg.vector_norm(u + v, dim=1) / 2.0
    length: Tensor = norms[0] * norms[1] / x1.shape[1]
    return (sine * length) ** 2


def affine_determinant(joint: Joint, factor: float, constant: float) -> Tensor:
    """That of moments times a factor and plus a constant."""
    lengths = (joint.q11 * joint.q22).sqrt()
    apart = (joint.q11.sqrt() - joint.q22.sqrt()) ** 2 + 2.0 * without_cancellation(
        lengths, joint.q12, joint.determinant()
    )  # E[(z - z')^2]
    return joint.determinant() * factor**2 + factor * constant * apart


def summed_determinant(a: Joint, b: Joint) -> Tensor:
    """That of the sum of moments."""
    long_a, long_b = (a.q11 * a.q22).sqrt(), (b.q11 * b.q22).sqrt()
    short_a = without_cancellation(long_a, a.q12.abs(), a.determinant())
    short_b = without_cancellation(long_b, b.q12.abs(), b.determinant())
    product = a.q12 * b.q12
    agree = long_a * short_b + long_b * short_a - short_a * short_b
    cross = agree.where(product > 0, long_a * long_b - product)
    mixed = ((a.q11 * b.q22).sqrt() - (a.q22 * b.q11).sqrt()) ** 2 + 2.0 * cross
    return a.determinant() + b.determinant() + mixed


def multiplied_determinant(a: Joint, b: Joint) -> Tensor:
    """That of the product of moments."""
    return a.q11 * a.q22 * b.determinant() + a.determinant() * (b.q11 * b.q22 - b.determinant())


def without_cancellation(lengths: Tensor, q12: Tensor, det: Tensor) -> Tensor:
    """`lengths - q12`, where `lengths^2 - q12^2` is det; 0 where all vanish."""
    import torch

    total = lengths + q12
    return torch.where(q12 > 0, det / torch.where(q12 > 0, total, 1.0), lengths - q12)
