"""Exponentials of z and of z^2: their duals from moment generating functions of the Gaussian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ntkengine.activations.angle import angle, lengths
from ntkengine.activations.base import Activation
from ntkengine.first_layer import Growth
from ntkengine.joint import Joint
from ntkengine.spec import NonNegative, Real, spec
from ntkengine.state import Dual

if TYPE_CHECKING:
    from torch import Tensor


def determinant(joint: Joint) -> Tensor:
    """`q11 q22 - q12^2`, not negative."""
    import torch

    return torch.clamp(joint.q11 * joint.q22 - joint.q12 * joint.q12, min=0.0)


@spec
class Exp(Activation):
    """`a exp(b z)`. Kernels grow as the exponential of variances: they overflow where those are large."""

    kind: Literal["exp"] = "exp"
    a: Real = 1.0
    """Factor."""
    b: Real = 1.0
    """Rate."""

    def outline(self) -> Growth:
        return Growth(rate=abs(self.b) if self.a else 0.0)

    def function(self, z: Tensor) -> Tensor:
        import torch

        return self.a * torch.exp(self.b * z)

    def dual(self, joint: Joint) -> Dual:
        """`K = a^2 exp(b^2 (q11 + q22 + 2 q12) / 2)` and `b^2 K`: b (z + z') is Gaussian."""
        import torch

        variance = torch.clamp(joint.q11 + joint.q22 + 2.0 * joint.q12, min=0.0)
        value = self.a**2 * torch.exp(0.5 * self.b**2 * variance)
        return Dual(value, self.b**2 * value)


@spec
class ExpNormalized(Activation):
    """The kernel `q exp(gamma (cos t + shift))`, `q = sqrt(q11 q22)` and t the angle (Shankar et al.,
    "Neural kernels without tangents", 2020).

    It is the dual of no function of z alone, so that a finite network cannot have it.
    """

    kind: Literal["exp_normalized"] = "exp_normalized"
    gamma: NonNegative = 1.0
    """Factor of the exponent."""
    shift: Real = -1.0
    """Added to the cosine; at -1 variances are kept."""

    def outline(self) -> Growth:
        return Growth(order=1)

    def function(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def dual(self, joint: Joint) -> Dual:
        """The slope is the derivative of the value by q12, `gamma exp(gamma (cos t + shift))`, as it is for
        the dual of a function (Price, 1958). Where a variance is 0, the cosine counts as 0."""
        import torch

        growth = torch.exp(self.gamma * (angle(joint).cosine + self.shift))
        return Dual(lengths(joint) * growth, self.gamma * growth)


@spec
class Gaussian(Activation):
    """`a exp(b z^2)`."""

    kind: Literal["gaussian"] = "gaussian"
    a: Real = 1.0
    """Height."""
    b: Annotated[float, Field(le=0, strict=True)] = -1.0
    """Factor of the exponent; not positive, for then expectations diverge as soon as a variance exceeds
    1 / (4 b)."""

    def outline(self) -> Growth:
        return Growth()

    def function(self, z: Tensor) -> Tensor:
        import torch

        return self.a * torch.exp(self.b * z * z)

    def dual(self, joint: Joint) -> Dual:
        """`a^2 / sqrt(D)` and `4 a^2 b^2 q12 / D^(3/2)`, `D = (1 - 2 b q11)(1 - 2 b q22) - 4 b^2 q12^2`:
        the Gaussian integral, and its derivative by q12 (Price, 1958)."""
        import torch

        rate = -2.0 * self.b
        d = 1.0 + rate * (joint.q11 + joint.q22) + rate**2 * determinant(joint)
        value = self.a**2 / torch.sqrt(d)
        return Dual(value, value * (rate**2 * joint.q12 / d))


@spec
class Gabor(Activation):
    """`exp(-z^2) sin(z)`."""

    kind: Literal["gabor"] = "gabor"

    def outline(self) -> Growth:
        return Growth()

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.exp(-z * z) * torch.sin(z)

    def dual(self, joint: Joint) -> Dual:
        """With `T = q11 + q22`, `d = q11 q22 - q12^2`, `D = 1 + 2 T + 4 d` and
        `E_-+ = exp(-(T + 4 d -+ 2 q12) / (2 D))`, Gaussian integrals of `exp(-z^2 - z'^2 + i (z -+ z'))`:
        `E[s s'] = (E_- - E_+) / (2 sqrt(D))` and, as its derivative by q12 (Price, 1958),
        `E[s's'] = (4 q12 (E_- - E_+) (2 + 3 T + 4 d) / D + (E_- + E_+) (1 + 8 q12^2 / D)) / (2 D^(3/2))`."""
        import torch

        q12, total, det = joint.q12, joint.q11 + joint.q22, determinant(joint)
        d = 1.0 + 2.0 * total + 4.0 * det
        size = q12.abs()
        larger = torch.exp(-(torch.clamp(total - 2.0 * size, min=0.0) + 4.0 * det) / (2.0 * d))
        less = torch.expm1(-2.0 * size / d)
        difference, both = torch.copysign(larger * less, q12), larger * (2.0 + less)
        scale = 0.5 / torch.sqrt(d)
        slope = 4.0 * (q12 / d) * difference * ((2.0 + 3.0 * total + 4.0 * det) / d)
        return Dual(scale * difference, scale * (slope + both * (1.0 / d + 8.0 * (q12 / d) ** 2)))
