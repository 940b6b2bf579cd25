"""What the expectations over a first layer need to know of an activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ntkengine.first_layer.preactivation import Growth

if TYPE_CHECKING:
    from torch import Tensor

    Pointwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PiecewisePolynomial:
    """`sum_i coefficients[j][i] z^i` between `kinks[j - 1]` and `kinks[j]`: ascending, and a piece more.

    At the kinks themselves it says nothing.
    """

    kinks: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]

    @property
    def growth(self) -> Growth:
        return Growth(order=self.degree)

    @property
    def pieces(self) -> PiecewisePolynomial:
        return self

    @property
    def degree(self) -> int:
        return max(map(len, self.coefficients)) - 1

    def derivative(self) -> PiecewisePolynomial:
        """The derivative on each piece."""
        pieces = (tuple(i * c for i, c in enumerate(piece))[1:] or (0.0,) for piece in self.coefficients)
        return PiecewisePolynomial(self.kinks, tuple(pieces))


@dataclass(frozen=True)
class Profile:
    """An activation: s and s', elementwise on tensors of any shape, how fast they grow, and, where s is a
    piecewise polynomial, its pieces."""

    function: Pointwise
    derivative: Pointwise
    growth: Growth
    pieces: PiecewisePolynomial | None = None


def slope_of(function: Pointwise) -> Pointwise:
    """The derivative of a function, elementwise, by automatic differentiation."""

    def derivative(z: Tensor) -> Tensor:
        import torch

        with torch.enable_grad():
            at = z.detach().requires_grad_()
            value = function(at)
            if not value.requires_grad:  # constant
                return torch.zeros_like(z)
            return torch.autograd.grad(value.sum(), at)[0]

    return derivative
