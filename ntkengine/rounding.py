"""What rounding does to kernels: sizes, distances, and how an error grows in an activation. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.joint import Joint
from ntkengine.positions import equal_positions

if TYPE_CHECKING:
    from torch import Tensor

MOST_PROBED = 2**11  # variances

Errors = NDArray[np.float64] | float  # one number, or one for each nearness that is probed


def largest(values: Tensor) -> float:
    """The largest absolute entry; 1 where all vanish."""
    return float(values.abs().max()) or 1.0


def epsilon(values: Tensor) -> float:
    """The rounding error of the dtype."""
    import torch

    return float(torch.finfo(values.dtype).eps)


def errors_behind(
    dual: Callable[[Joint], Any], own: Joint, nearness: Sequence[float], error: Errors
) -> tuple[Errors, Errors]:
    """What an error in the covariance of rows, so near to coincident ones, becomes in the value and in the
    slope of a dual, for each nearness: a kink puts a root into the slope's, a step into both.

    Args:
        own: of each row with itself.
        error: relative; that of rounding at least.
    """
    import torch

    v = equal_positions(own.q12) if own.q12.ndim == 3 else own.q12
    higher = own.higher if v is own.q12 else None  # one of rounding is enough
    if higher is None:
        v = v[:: -(-v.numel() // MOST_PROBED)]
    here = 1.0 - np.array(nearness)
    there = here - np.maximum(error, 8.0 * epsilon(v))  # the cosine itself is known to four
    cosines = torch.tensor(np.stack((here, there)), dtype=v.dtype, device=v.device)
    cosines = cosines.reshape(2, len(nearness), *[1] * v.ndim)
    after = dual(Joint(v, v * cosines, v, higher))
    shape = (*cosines.shape[:2], *v.shape)
    both = torch.stack([each.expand(shape).flatten(2) for each in (after.value, after.slope)])
    first, second = both.unbind(1)  # (2, nearness, rows): of the value and of the slope
    distance, size = (second - first).abs_().amax(-1), first.abs().amax(-1)
    relative = distance / size.where(size > 0.0, math.inf)  # 0 where all vanish
    value, slope = relative.double().numpy(force=True)
    return value, slope
