"""Sines and cosines: their duals from characteristic functions of the Gaussian."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ntkengine.activations.base import Activation
from ntkengine.first_layer import Growth
from ntkengine.joint import Joint
from ntkengine.spec import NonNegative, Real, spec
from ntkengine.state import Dual

if TYPE_CHECKING:
    from torch import Tensor


def waves(joint: Joint, frequency: float) -> tuple[Tensor, Tensor]:
    """`E[cos(b z) cos(b z')]` and `E[sin(b z) sin(b z')]`, b the frequency.

    Half the sum and half the difference of `E[cos(b (z -+ z'))] = exp(-b^2 (q11 + q22 -+ 2 q12) / 2)`,
    with the larger one as a factor, so that the difference loses no digits where the variances are small.
    """
    import torch

    square = frequency**2
    size = joint.q12.abs()
    larger = 0.5 * torch.exp(-0.5 * square * torch.clamp(joint.q11 + joint.q22 - 2.0 * size, min=0.0))
    less = torch.expm1(-2.0 * square * size)
    return larger * (2.0 + less), torch.copysign(larger * less, joint.q12)


def wave_dual(joint: Joint, frequency: float, even_share: float, odd_share: float) -> Dual:
    """The dual of a wave whose square amplitude is shared by its even (cosine) and its odd (sine) part."""
    even, odd = waves(joint, frequency)
    return Dual(even_share * even + odd_share * odd, frequency**2 * (odd_share * even + even_share * odd))


@spec
class Sin(Activation):
    """`a sin(b z + c)`."""

    kind: Literal["sin"] = "sin"
    a: Real = 1.0
    """Amplitude."""
    b: Real = 1.0
    """Frequency."""
    c: Real = 0.0
    """Phase."""

    def outline(self) -> Growth:
        return Growth()

    def function(self, z: Tensor) -> Tensor:
        import torch

        return self.a * torch.sin(self.b * z + self.c)

    def dual(self, joint: Joint) -> Dual:
        """With C and S, the dual of `cos(b z)` and that of `sin(b z)`:
        `a^2 (sin^2 c C + cos^2 c S)` and `a^2 b^2 (cos^2 c C + sin^2 c S)`."""
        sin2, cos2 = (self.a * math.sin(self.c)) ** 2, (self.a * math.cos(self.c)) ** 2
        return wave_dual(joint, self.b, sin2, cos2)


@spec
class Cos(Activation):
    """`a cos(b z + c)`."""

    kind: Literal["cos"] = "cos"
    a: Real = 1.0
    """Amplitude."""
    b: Real = 1.0
    """Frequency."""
    c: Real = 0.0
    """Phase."""

    def outline(self) -> Growth:
        return Growth()

    def function(self, z: Tensor) -> Tensor:
        import torch

        return self.a * torch.cos(self.b * z + self.c)

    def dual(self, joint: Joint) -> Dual:
        """With C and S, the dual of `cos(b z)` and that of `sin(b z)`:
        `a^2 (cos^2 c C + sin^2 c S)` and `a^2 b^2 (sin^2 c C + cos^2 c S)`."""
        sin2, cos2 = (self.a * math.sin(self.c)) ** 2, (self.a * math.cos(self.c)) ** 2
        return wave_dual(joint, self.b, cos2, sin2)


@spec
class Rbf(Activation):
    """`sqrt(2) sin(sqrt(2 gamma) z + pi / 4)`, whose dual is a radial basis function of the distance."""

    kind: Literal["rbf"] = "rbf"
    gamma: NonNegative = 1.0
    """`1 / (2 l^2)` for the length scale l, distances being those of pre-activations."""

    def outline(self) -> Growth:
        return Growth()

    def function(self, z: Tensor) -> Tensor:
        import torch

        return math.sqrt(2.0) * torch.sin(math.sqrt(2.0 * self.gamma) * z + math.pi / 4.0)

    def dual(self, joint: Joint) -> Dual:
        """`K = exp(-gamma (q11 + q22 - 2 q12))` and `2 gamma K` (Rahimi and Recht, 2007): a sine of phase
        pi / 4, for which `sin^2 = cos^2 = 1/2`."""
        import torch

        distance = torch.clamp(joint.q11 + joint.q22 - 2.0 * joint.q12, min=0.0)
        value = torch.exp(-self.gamma * distance)
        return Dual(value, 2.0 * self.gamma * value)
