"""Activations that are constant or a power on each side of 0: arc-cosine kernels (Cho and Saul, 2009)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ntkengine.activations.angle import Angle, angle
from ntkengine.activations.base import Activation
from ntkengine.first_layer import PiecewisePolynomial
from ntkengine.joint import Joint
from ntkengine.spec import spec
from ntkengine.state import Dual

if TYPE_CHECKING:
    from torch import Tensor


def arc_cosines(between: Angle, degree: int) -> tuple[Tensor, Tensor]:
    """The functions J_n of the angle t, of n = degree and n = degree - 1 (or 0):
    `E[max(z, 0)^n max(z', 0)^n] = (q11 q22)^(n/2) J_n(t) / (2 pi)`.

    `J_0 = pi - t`, `J_1 = sin t + (pi - t) cos t`, and
    `J_(n+1) = (2n + 1) cos t J_n + n^2 sin^2 t J_(n-1)`, from Stein's lemma: with
    `F_n = E[z^n z'^n]` over z, z' > 0 of variance 1 and `G_n = E[z^(n-1) z'^(n+1)]` likewise,
    `F_(n+1) = n G_n + (n + 1) cos t F_n` and `G_n = cos t F_n + n sin^2 t F_(n-1)`.
    """
    import torch

    rest = torch.atan2(between.sine, -between.cosine)  # pi - t
    current, last = rest, torch.zeros_like(rest)
    for n in range(degree):
        if n == 0:
            following = between.sine + rest * between.cosine
        else:
            following = (2 * n + 1) * between.cosine * current + (n * between.sine) ** 2 * last
        current, last = following, current
    return current, last


@spec
class Sign(Activation):
    """The sign of z, and 0 at 0.

    Its derivative is 0 almost everywhere, and so is the slope of its dual: nothing is trained through it.
    The expectation over its distributional derivative, which wide smooth steps tend to, diverges for
    coincident inputs.
    """

    kind: Literal["sign"] = "sign"

    def outline(self) -> PiecewisePolynomial:
        return PiecewisePolynomial(kinks=(0.0,), coefficients=((-1.0,), (1.0,)))

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.sign(z)

    def dual(self, joint: Joint) -> Dual:
        """`(2/pi) arcsin(cos t)` (Williams, 1996, for infinitely steep units); 0 where a variance is 0."""
        import torch

        between = angle(joint)
        value = torch.atan2(between.cosine, between.sine) * (2.0 / math.pi)
        return Dual(value, torch.zeros_like(value))


@spec
class RectifiedMonomial(Activation):
    """`z^degree` for z >= 0, 0 otherwise.

    For degree 0, a step, the derivative is 0 almost everywhere, and so is the slope of the dual: nothing
    is trained through it (the expectation over its distributional derivative diverges for coincident
    inputs). For degree 1, which is `relu`, the derivative at 0 is taken as 0.
    """

    kind: Literal["rectified_monomial"] = "rectified_monomial"
    degree: Annotated[int, Field(ge=0, le=20, strict=True)]
    """The power. At obtuse angles the dual is small, and right to rounding of the dual at angle 0."""

    def outline(self) -> PiecewisePolynomial:
        return PiecewisePolynomial(kinks=(0.0,), coefficients=((0.0,), (*[0.0] * self.degree, 1.0)))

    def function(self, z: Tensor) -> Tensor:
        import torch

        if self.degree == 0:
            return torch.where(z >= 0, z**0, torch.zeros_like(z))
        return torch.relu(z) ** self.degree

    def dual(self, joint: Joint) -> Dual:
        """`(q11 q22)^(n/2) J_n / (2 pi)` and `n^2 (q11 q22)^((n-1)/2) J_(n-1) / (2 pi)`, n the degree."""
        import torch

        n = self.degree
        value, slope = arc_cosines(angle(joint), n)
        roots = torch.sqrt(joint.q11), torch.sqrt(joint.q22)
        if n == 0:
            return Dual(at_zero(joint, value / (2.0 * math.pi)), slope)
        power = roots[0] ** (n - 1) * roots[1] ** (n - 1) / (2.0 * math.pi)
        return Dual(power * (roots[0] * roots[1]) * value, n**2 * power * slope)


def at_zero(joint: Joint, value: Tensor) -> Tensor:
    """The dual of the step where a variance is 0: there the step is 1, and elsewhere 1/2 in the mean."""
    import torch

    zeros = (joint.q11 == 0).to(value.dtype) + (joint.q22 == 0).to(value.dtype)
    return torch.where(zeros > 0, zeros / 2.0, value)
