"""What an array holds for each pair of inputs. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def mirrored(tile: Tensor) -> Tensor:
    """The tile across the diagonal: entry (j, i) is (i, j), and (j, i, b, a) is (i, j, a, b).

    Axes beyond the first two that are not such a pair stay as they are.
    """
    swapped = tile.transpose(0, 1)
    return swapped.transpose(2, 3) if tile.ndim == 4 else swapped


@dataclass(frozen=True)
class Entry:
    """One array of a Gram matrix, of shape (n1, n2, *shape): `()` for a number, `(k, k)` for a block."""

    shape: tuple[int, ...] = ()
    dtype: Literal["float32", "float64"] = "float64"
    mirror: Callable[[Tensor], Tensor] = mirrored  # used where x2 is x1

    @property
    def bytes(self) -> int:
        """Of one pair."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize
