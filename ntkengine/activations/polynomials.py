"""Polynomial activations: exact duals for any law of the weights whose moments exist."""

from __future__ import annotations

from abc import abstractmethod
from math import factorial, sqrt
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

from pydantic import Field

from ntkengine.activations.base import Activation
from ntkengine.activations.moments import MOST_FROM_CUMULANTS, Coefficients, polynomial_dual
from ntkengine.first_layer import PiecewisePolynomial
from ntkengine.joint import Joint
from ntkengine.spec import Real, spec
from ntkengine.state import Dual, Method

if TYPE_CHECKING:
    from torch import Tensor

MAX_DEGREE = 20  # beyond it, moments of twice the order lose all digits


class PolynomialActivation(Activation):
    """`sum_i c_i z^i`: subclasses state the coefficients."""

    from_cumulants: ClassVar[int] = MOST_FROM_CUMULANTS
    method: ClassVar[Method] = "moments"

    @abstractmethod
    def polynomial(self) -> Coefficients:
        """The coefficients of 1, z, z^2, ..."""

    @final
    def outline(self) -> PiecewisePolynomial:
        return PiecewisePolynomial(kinks=(), coefficients=(self.polynomial(),))

    @final
    def dual(self, joint: Joint) -> Dual:
        return polynomial_dual(self.polynomial(), joint)


@spec
class Linear(PolynomialActivation):
    """`z`."""

    is_linear: ClassVar[bool] = True
    kind: Literal["linear"] = "linear"

    def function(self, z: Tensor) -> Tensor:
        return z

    def polynomial(self) -> Coefficients:
        return (0.0, 1.0)


@spec
class Quadratic(PolynomialActivation):
    """`z^2`."""

    kind: Literal["quadratic"] = "quadratic"

    def function(self, z: Tensor) -> Tensor:
        return z * z

    def polynomial(self) -> Coefficients:
        return (0.0, 0.0, 1.0)


@spec
class Monomial(PolynomialActivation):
    """`z^degree`."""

    kind: Literal["monomial"] = "monomial"
    degree: Annotated[int, Field(ge=0, le=MAX_DEGREE, strict=True)]
    """The power; 20 at most, beyond which moments of order 2 degree lose all digits."""

    def function(self, z: Tensor) -> Tensor:
        return z**self.degree

    def polynomial(self) -> Coefficients:
        return (0.0,) * self.degree + (1.0,)


@spec
class Polynomial(PolynomialActivation):
    """`sum_i coef[i] z^i`."""

    kind: Literal["polynomial"] = "polynomial"
    coef: Annotated[tuple[Real, ...], Field(min_length=1, max_length=MAX_DEGREE + 1)]
    """Coefficients of 1, z, z^2, ..."""

    def function(self, z: Tensor) -> Tensor:
        total = self.coef[-1] * z**0
        for coefficient in reversed(self.coef[:-1]):
            total = total * z + coefficient
        return total

    def polynomial(self) -> Coefficients:
        return self.coef


@spec
class Hermite(PolynomialActivation):
    """The probabilists' Hermite polynomial over the root of its norm: `He_n(z) / sqrt(n!)`, n the degree.

    For z of variance 1 its dual is `q12^n`.
    """

    kind: Literal["hermite"] = "hermite"
    degree: Annotated[int, Field(ge=0, le=MAX_DEGREE, strict=True)]
    """The degree."""

    def function(self, z: Tensor) -> Tensor:
        """By `h_(k+1) = (z h_k - sqrt(k) h_(k-1)) / sqrt(k + 1)`."""
        last, current = 0.0 * z**0, z**0
        for k in range(self.degree):
            last, current = current, (z * current - sqrt(k) * last) / sqrt(k + 1)
        return current

    def polynomial(self) -> Coefficients:
        """`sqrt(n!) (-1)^m / (m! (n - 2m)! 2^m)` for z^(n - 2m)."""
        n, coefficients = self.degree, [0.0] * (self.degree + 1)
        for m in range(n // 2 + 1):
            norm = (-2) ** m * factorial(m) * factorial(n - 2 * m)
            coefficients[n - 2 * m] = sqrt(factorial(n)) / norm
        return tuple(coefficients)
