"""Second moments of features with and without positions, as arrays: how pairs of inputs, and pairs of their
positions, are laid out.

Between the rows of x1 and x2 a moment is (n1, n2), (n1, n2, P) or (n1, n2, P, P); of each row with itself
(n,), (n, P) or (n, P, P). P positions of spatial axes are one axis, row by row.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Extent(IntEnum):
    """How much of the covariance between positions is kept."""

    NONE = 0
    DIAGONAL = 1
    FULL = 2


class Needs(NamedTuple):
    """What is needed of the covariance between positions of two inputs, and of those of one input."""

    between: Extent = Extent.FULL
    within: Extent = Extent.FULL

    def and_those_of(self, other: Needs) -> Needs:
        """What either needs."""
        return Needs(max(self.between, other.between), max(self.within, other.within))


def one_axis(x: Tensor) -> Tensor:
    """Features (n, *axes, C) with their positions on one axis, (n, P, C); (n, C) has none."""
    return x if x.ndim == 2 else x.flatten(1, -2)


def between(x1: Tensor, x2: Tensor, extent: Extent) -> Tensor:
    """Sums of products over the features of x1 (n1, [P,] C) and x2 (n2, [P,] C), in memory as the product of
    matrices leaves them: (P, n1, n2) or (n1, P, n2, P)."""
    if x1.ndim == 2:
        return x1 @ x2.T
    if extent == Extent.FULL:
        product = x1.flatten(0, 1) @ x2.flatten(0, 1).T
        return product.reshape(*x1.shape[:2], *x2.shape[:2]).transpose(1, 2)
    return (x1.transpose(0, 1) @ x2.permute(1, 2, 0)).permute(1, 2, 0)


def row_by_row(x1: Tensor, x2: Tensor, extent: Extent) -> Tensor:
    """Sums of products over the features of each row of x1 and the same row of x2."""
    if x1.ndim == 3 and extent == Extent.FULL:
        return x1 @ x2.transpose(1, 2)
    return (x1 * x2).sum(-1)


def equal_positions(moment: Tensor) -> Tensor:
    """The entries (..., P) of (..., P, P)."""
    return moment.diagonal(dim1=-2, dim2=-1).contiguous()


def own_entries(moment: Tensor) -> Tensor:
    """A view of the entries of each row with itself, (n, ...), of moments (n, n, ...)."""
    return moment.diagonal(dim1=0, dim2=1).movedim(-1, 0)


def of_own_positions(moment: Tensor) -> Tensor:
    """A view of those at equal positions, (n,) or (n, P)."""
    own = own_entries(moment)
    return own.diagonal(dim1=-2, dim2=-1) if own.ndim == 3 else own


def with_coincident(moment: Tensor, own: Tensor) -> Tensor:
    """Moments between the rows of x and x, with those of each row with itself in their places."""
    result = moment.clone()
    places = own_entries(result) if own.ndim == moment.ndim - 1 else of_own_positions(result)
    places.copy_(own if own.ndim == places.ndim else own.diagonal(dim1=-2, dim2=-1))
    return result


def exchanged(moment: Tensor) -> Tensor:
    """Moments of (x2, x1) from those of (x1, x2)."""
    swapped = moment.transpose(0, 1)
    return swapped.transpose(2, 3) if moment.ndim == 4 else swapped


def mirrored(moment: Tensor) -> Tensor:
    """Moments of x with itself, symmetric to the last bit: elementwise functions need not give that by
    themselves, for they round differently in the vector lanes and in what is left over."""
    if moment.ndim < 4:
        upper = moment.movedim((0, 1), (-2, -1))
        return (upper.triu() + upper.triu(1).mT).movedim((-2, -1), (0, 1))
    n, positions = moment.shape[0], moment.shape[2]
    square = moment.transpose(1, 2).reshape(n * positions, n * positions)
    square = square.triu() + square.triu(1).T
    return square.reshape(n, positions, n, positions).transpose(1, 2)
