"""What rounding does to kernels: sizes, distances, and how an error grows in an activation. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ntkengine.joint import Joint
from ntkengine.positions import equal_positions

if TYPE_CHECKING:
    from torch import Tensor


def largest(values: Tensor) -> float:
    """The largest absolute entry; 1 where all vanish."""
    return float(values.abs().max()) or 1.0


def relative_distance(values: Tensor, others: Tensor) -> float:
    """The largest difference, relative to the largest of the others; 0 where these vanish."""
    return float((values - others).abs().max()) / largest(others) if bool(others.any()) else 0.0


def epsilon(values: Tensor) -> float:
    """The rounding error of the dtype."""
    import torch

    return float(torch.finfo(values.dtype).eps)


def errors_behind(
    dual: Callable[[Joint], Any], own: Joint, nearness: float, error: float
) -> tuple[float, float]:
    """What an error in the covariance of rows, so near to coincident ones, becomes in the value and in the
    slope of a dual: a kink puts a root into the slope's, a step into both.

    Args:
        own: of each row with itself.
        error: relative; that of rounding at least.
    """
    v = equal_positions(own.q12) if own.q12.ndim == 3 else own.q12
    higher = own.higher if v is own.q12 else None  # one of rounding is enough
    apart = max(error, 8.0 * epsilon(v))  # the cosine itself is known to four
    here, there = (dual(Joint(v, v * (1.0 - d), v, higher)) for d in (nearness, nearness + apart))
    return relative_distance(there.value, here.value), relative_distance(there.slope, here.slope)
