"""Polynomial activations: exact duals for any law of the weights whose moments exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ntkengine.activations.base import Activation
from ntkengine.activations.moments import Polynomial
from ntkengine.spec import spec

if TYPE_CHECKING:
    from torch import Tensor


@spec
class Linear(Activation):
    """`z`."""

    kind: Literal["linear"] = "linear"

    def function(self, z: Tensor) -> Tensor:
        return z

    def polynomial(self) -> Polynomial:
        return (0.0, 1.0)


@spec
class Quadratic(Activation):
    """`z^2`."""

    kind: Literal["quadratic"] = "quadratic"

    def function(self, z: Tensor) -> Tensor:
        return z * z

    def polynomial(self) -> Polynomial:
        return (0.0, 0.0, 1.0)


@spec
class Monomial(Activation):
    """`z^degree`."""

    kind: Literal["monomial"] = "monomial"
    degree: Annotated[int, Field(ge=0, le=20, strict=True)]
    """The power; 20 at most, beyond which moments of order 2 degree lose all digits."""

    def function(self, z: Tensor) -> Tensor:
        return z**self.degree

    def polynomial(self) -> Polynomial:
        return (0.0,) * self.degree + (1.0,)
