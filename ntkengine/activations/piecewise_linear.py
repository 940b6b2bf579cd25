"""Piecewise-linear activations: their dual is the arc-cosine kernel of order 1 (Cho and Saul, 2009)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ntkengine.activations.base import Activation
from ntkengine.spec import Real, spec
from ntkengine.state import Dual, Joint

if TYPE_CHECKING:
    from torch import Tensor


def piecewise_linear_dual(joint: Joint, negative_slope: float) -> Dual:
    """The dual of `s(z) = max(z, 0) + a min(z, 0)`, a = `negative_slope`.

    With `q = sqrt(q11 q22)` and the angle t, `q cos t = q12`:
    `E[s s'] = (1 + a^2) q12 / 2 + (1 - a)^2 q (sin t - t cos t) / (2 pi)` and
    `E[s's'] = (1 + a^2) / 2 - (1 - a)^2 t / (2 pi)`.
    """
    import torch

    q = torch.sqrt(joint.q11 * joint.q22)
    safe = torch.where(q > 0, q, torch.ones_like(q))
    cosine = torch.clamp(joint.q12 / safe, -1.0, 1.0)
    sine = torch.sqrt((1.0 - cosine) * (1.0 + cosine))
    angle = torch.atan2(sine, cosine)
    even, odd = (1.0 + negative_slope**2) / 2.0, (1.0 - negative_slope) ** 2 / (2.0 * math.pi)
    return Dual(even * joint.q12 + odd * q * (sine - angle * cosine), even - odd * angle)


@spec
class Relu(Activation):
    """`max(z, 0)`; its derivative at 0 is taken as 0."""

    kind: Literal["relu"] = "relu"

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.relu(z)

    def dual(self, joint: Joint) -> Dual:
        return piecewise_linear_dual(joint, 0.0)


@spec
class LeakyRelu(Activation):
    """`z` for z > 0, `alpha z` otherwise."""

    kind: Literal["leaky_relu"] = "leaky_relu"
    alpha: Real = 0.01
    """Slope for negative z."""

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.nn.functional.leaky_relu(z, self.alpha)

    def dual(self, joint: Joint) -> Dual:
        return piecewise_linear_dual(joint, self.alpha)
