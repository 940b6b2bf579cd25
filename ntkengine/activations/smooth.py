"""Smooth activations, each with the closed form of its dual under a Gaussian pair where there is one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ntkengine.activations.base import Activation
from ntkengine.spec import Real, spec
from ntkengine.state import Dual, Joint

if TYPE_CHECKING:
    from torch import Tensor


@spec
class Erf(Activation):
    """The error function `erf(z)`."""

    kind: Literal["erf"] = "erf"

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.erf(z)

    def dual(self, joint: Joint) -> Dual:
        """`(2/pi) arcsin(2 q12 / sqrt((1 + 2 q11)(1 + 2 q22)))` and `(4/pi) / sqrt(D)`,
        `D = (1 + 2 q11)(1 + 2 q22) - 4 q12^2` (Williams, "Computing with infinite networks", 1996)."""
        import torch

        q11, q12, q22 = joint.q11, joint.q12, joint.q22
        root = torch.sqrt(1.0 + 2.0 * (q11 + q22) + 4.0 * torch.clamp(q11 * q22 - q12 * q12, min=0.0))
        return Dual(torch.atan2(2.0 * q12, root) * (2.0 / math.pi), 4.0 / math.pi / root)


@spec
class Gelu(Activation):
    """`z Phi(z)`, Phi the normal distribution function (the exact form, not its tanh approximation)."""

    kind: Literal["gelu"] = "gelu"

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.nn.functional.gelu(z)

    def dual(self, joint: Joint) -> Dual:
        """With `A = E[Phi Phi']`, `P = E[phi phi'] = 1 / (2 pi sqrt(D))`,
        `D = (1 + q11)(1 + q22) - q12^2` and `R = 1/(1 + q11) + 1/(1 + q22)`, by Stein's lemma:
        `E[s s'] = q12 A + P (q11 q22 - q12^2 + q12^2 R)` and
        `E[s's'] = A + P q12 (R + 1/D)` (as in Tsuchida et al., 2021)."""
        import torch

        q11, q12, q22 = joint.q11, joint.q12, joint.q22
        determinant = torch.clamp(q11 * q22 - q12 * q12, min=0.0)
        d = 1.0 + q11 + q22 + determinant
        root = torch.sqrt(d)
        a = 0.25 + torch.atan2(q12, root) / (2.0 * math.pi)
        p = 1.0 / (2.0 * math.pi * root)
        r = 1.0 / (1.0 + q11) + 1.0 / (1.0 + q22)
        return Dual(q12 * a + p * (determinant + q12 * q12 * r), a + p * q12 * (r + 1.0 / d))


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

    def function(self, z: Tensor) -> Tensor:
        import torch

        return self.a * torch.sin(self.b * z + self.c)

    def dual(self, joint: Joint) -> Dual:
        """From `E[cos(b (z -+ z'))] = exp(-b^2 (q11 + q22 -+ 2 q12) / 2)` and
        `2 sin u sin v = cos(u - v) - cos(u + v)`."""
        import torch

        scale = -0.5 * self.b**2
        total = joint.q11 + joint.q22
        difference = torch.exp(scale * (total - 2.0 * joint.q12))
        phase = math.cos(2.0 * self.c) * torch.exp(scale * (total + 2.0 * joint.q12))
        half = 0.5 * self.a**2
        return Dual(half * (difference - phase), half * self.b**2 * (difference + phase))


@spec
class Tanh(Activation):
    """`tanh(z)`; its dual has no closed form."""

    kind: Literal["tanh"] = "tanh"

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.tanh(z)
