"""The angle between two inputs, from their second moments: what duals of homogeneous functions depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ntkengine.state import Joint

if TYPE_CHECKING:
    from torch import Tensor


class Angle(NamedTuple):
    """Cosine and sine of the angle, which is in [0, pi]; the cosine is 0 where a variance is 0."""

    cosine: Tensor
    sine: Tensor

    def radians(self) -> Tensor:
        import torch

        return torch.atan2(self.sine, self.cosine)


def angle(joint: Joint) -> Angle:
    """`cos^2 t = (q12 / q11) (q12 / q22)`: exactly 1 for coincident and antipodal inputs, and no product
    of two variances, which overflows or vanishes where the angle does not."""
    import torch

    q11, q22 = (torch.where(q > 0, q, torch.ones_like(q)) for q in (joint.q11, joint.q22))
    squared = torch.clamp((joint.q12 / q11) * (joint.q12 / q22), max=1.0)
    return Angle(torch.copysign(torch.sqrt(squared), joint.q12), torch.sqrt(1.0 - squared))


def lengths(joint: Joint) -> Tensor:
    """`sqrt(q11 q22)`, from the two roots."""
    import torch

    return torch.sqrt(joint.q11) * torch.sqrt(joint.q22)
