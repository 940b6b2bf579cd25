"""Smooth activations, each with the closed form of its dual under a Gaussian pair where there is one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ntkengine.activations.base import Activation
from ntkengine.first_layer import Growth
from ntkengine.joint import Joint
from ntkengine.spec import spec
from ntkengine.state import Dual

if TYPE_CHECKING:
    from torch import Tensor


LOGISTIC_RATE = 1.0 / 2.4020563531719796  # brings erf closest to the logistic function on [-5, 5]


def erf_dual(joint: Joint, rate: float) -> Dual:
    """The dual of `erf(b z)`, b the rate: that of erf with moments times b^2, and the slope times b^2."""
    square = rate**2
    root = joint.determinant() * (4.0 * square**2)
    root.add_(2.0 * square * joint.q11 + 1.0).add_(2.0 * square * joint.q22).sqrt_()
    value = (joint.q12 * (2.0 * square)).div_(root).atan_().mul_(2.0 / math.pi)
    return Dual(value, (4.0 * square / math.pi) / root)


@spec
class Erf(Activation):
    """The error function `erf(z)`."""

    kind: Literal["erf"] = "erf"

    def outline(self) -> Growth:
        return Growth()

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.erf(z)

    def dual(self, joint: Joint) -> Dual:
        """`(2/pi) arcsin(2 q12 / sqrt((1 + 2 q11)(1 + 2 q22)))` and `(4/pi) / sqrt(D)`,
        `D = (1 + 2 q11)(1 + 2 q22) - 4 q12^2` (Williams, "Computing with infinite networks", 1996)."""
        return erf_dual(joint, 1.0)


@spec
class SigmoidLike(Activation):
    """`(1 + erf(z / 2.4020563531719796)) / 2`: close to the logistic function, with a closed form."""

    kind: Literal["sigmoid_like"] = "sigmoid_like"

    def outline(self) -> Growth:
        return Growth()

    def function(self, z: Tensor) -> Tensor:
        import torch

        return 0.5 * torch.erf(z * LOGISTIC_RATE) + 0.5

    def dual(self, joint: Joint) -> Dual:
        """A quarter of the dual of `erf(b z)`, and 1/4, since erf is odd."""
        dual = erf_dual(joint, LOGISTIC_RATE)
        return Dual(0.25 * dual.value + 0.25, 0.25 * dual.slope)


@spec
class Gelu(Activation):
    """`z Phi(z)`, Phi the normal distribution function (the exact form, not its tanh approximation)."""

    kind: Literal["gelu"] = "gelu"

    def outline(self) -> Growth:
        return Growth(order=1)

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.nn.functional.gelu(z)

    def dual(self, joint: Joint) -> Dual:
        """With `A = E[Phi Phi']`, `P = E[phi phi'] = 1 / (2 pi sqrt(D))`,
        `D = (1 + q11)(1 + q22) - q12^2` and `R = 1/(1 + q11) + 1/(1 + q22)`, by Stein's lemma:
        `E[s s'] = q12 A + P (q11 q22 - q12^2 + q12^2 R)` and
        `E[s's'] = A + P q12 (R + 1/D)` (as in Tsuchida et al., 2021)."""
        q11, q12, q22 = joint.q11, joint.q12, joint.q22
        determinant = joint.determinant()
        d = (determinant + (1.0 + q11)).add_(q22)
        root = d.sqrt()
        a = (q12 / root).atan_().mul_(1.0 / (2.0 * math.pi)).add_(0.25)
        p = root.reciprocal() * (1.0 / (2.0 * math.pi))
        pq = p * q12
        r = 1.0 / (1.0 + q11) + 1.0 / (1.0 + q22)
        value = (r * q12 * pq).addcmul_(p, determinant).addcmul_(q12, a)
        return Dual(value, (d.reciprocal() + r).mul(pq).add_(a))
