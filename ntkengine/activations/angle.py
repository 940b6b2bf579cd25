"""The angle between two inputs, from their second moments: what duals of homogeneous functions depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ntkengine.joint import Joint

if TYPE_CHECKING:
    from torch import Tensor


class Angle(NamedTuple):
    """Cosine and sine of the angle, and the angle, in [0, pi]; the cosine is 0 where a variance is 0."""

    cosine: Tensor
    sine: Tensor
    radians: Tensor


def angle(joint: Joint) -> Angle:
    """`cos t = q12 / sqrt(q11 q22)`; from the determinant, and with all its digits, where that is known.

    No product of two variances is formed, which overflows or vanishes where the angle does not.
    """
    import torch

    first, second = (torch.where(q > 0, q, 1.0).rsqrt() for q in (joint.q11, joint.q22))
    if joint.det is not None:
        sine = (joint.det.sqrt() * first * second).clamp(max=1.0)
        cosine = torch.copysign(torch.sqrt((1.0 - sine) * (1.0 + sine)), joint.q12)
        return Angle(cosine, sine, torch.atan2(sine, cosine))
    # coincident inputs end at 1, not below it by a rounding error, whose root would be the angle
    first = first * (1.0 + 4.0 * torch.finfo(first.dtype).eps)
    # in place where nothing is lost to automatic differentiation: fresh memory costs as much as arithmetic
    cosine = (joint.q12 * first).mul_(second).clamp_(-1.0, 1.0)
    sine = (1.0 - cosine).mul_(1.0 + cosine).sqrt_()
    return Angle(cosine, sine, torch.acos(cosine))


def lengths(joint: Joint) -> Tensor:
    """`sqrt(q11 q22)`, from the two roots."""
    return joint.q11.sqrt() * joint.q22.sqrt()
