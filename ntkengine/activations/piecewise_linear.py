"""Piecewise-linear activations: their dual is the arc-cosine kernel of order 1 (Cho and Saul, 2009)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ntkengine.activations.angle import angle
from ntkengine.activations.base import Activation
from ntkengine.first_layer import PiecewisePolynomial
from ntkengine.joint import Joint
from ntkengine.spec import Real, spec
from ntkengine.state import Dual

if TYPE_CHECKING:
    from torch import Tensor


def piecewise_linear_dual(joint: Joint, a: float, b: float) -> Dual:
    """The dual of `s(z) = a min(z, 0) + b max(z, 0)`.

    With `q = sqrt(q11 q22)` and the angle t, `q cos t = q12`:
    `E[s's'] = (a^2 + b^2) / 2 - (a - b)^2 t / (2 pi)` and
    `E[s s'] = q (E[s's'] cos t + (a - b)^2 sin t / (2 pi))`: `s(z) = (a + b) z / 2 + (b - a) |z| / 2`, and
    `E[z |z'|] = 0`. Where a variance is 0, t is pi / 2: the derivative at 0 counts as `(a + b) / 2`.
    """
    cosine, sine, t = angle(joint)
    even, odd = (a**2 + b**2) / 2.0, (a - b) ** 2 / (2.0 * math.pi)
    slope = t.mul(-odd).add_(even)  # two roundings, so that the slope of opposite pairs is exactly 0
    value = (slope * cosine).add_(sine, alpha=odd).mul_(joint.q11.sqrt()).mul_(joint.q22.sqrt())
    return Dual(value, slope)


def two_slopes(a: float, b: float) -> PiecewisePolynomial:
    """`a min(z, 0) + b max(z, 0)`."""
    return PiecewisePolynomial(kinks=(0.0,), coefficients=((0.0, a), (0.0, b)))


@spec
class Relu(Activation):
    """`max(z, 0)`; its derivative at 0 is taken as 0."""

    kind: Literal["relu"] = "relu"

    def outline(self) -> PiecewisePolynomial:
        return two_slopes(0.0, 1.0)

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.relu(z)

    def dual(self, joint: Joint) -> Dual:
        return piecewise_linear_dual(joint, 0.0, 1.0)


@spec
class LeakyRelu(Activation):
    """`z` for z > 0, `alpha z` otherwise."""

    kind: Literal["leaky_relu"] = "leaky_relu"
    alpha: Real = 0.01
    """Slope for negative z."""

    def outline(self) -> PiecewisePolynomial:
        return two_slopes(self.alpha, 1.0)

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.nn.functional.leaky_relu(z, self.alpha)

    def dual(self, joint: Joint) -> Dual:
        return piecewise_linear_dual(joint, self.alpha, 1.0)


@spec
class ABRelu(Activation):
    """`a min(z, 0) + b max(z, 0)`; its derivative at 0 is taken as a."""

    kind: Literal["ab_relu"] = "ab_relu"
    a: Real
    """Slope for negative z."""
    b: Real
    """Slope for positive z."""

    def outline(self) -> PiecewisePolynomial:
        return two_slopes(self.a, self.b)

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.where(z > 0, self.b * z, self.a * z)

    def dual(self, joint: Joint) -> Dual:
        return piecewise_linear_dual(joint, self.a, self.b)


@spec
class Abs(Activation):
    """`|z|`; its derivative at 0 is taken as 0."""

    kind: Literal["abs"] = "abs"

    def outline(self) -> PiecewisePolynomial:
        return two_slopes(-1.0, 1.0)

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.abs(z)

    def dual(self, joint: Joint) -> Dual:
        return piecewise_linear_dual(joint, -1.0, 1.0)
