"""What the spectrum of a Gram matrix says about using it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ntkengine.errors import NumericalError

LARGEST = 1500  # rows up to which all eigenvalues are computed for an answer


@dataclass(frozen=True)
class Diagnostics:
    """Of a Gram matrix: None where it is not square, not of one set of inputs, or too large to ask."""

    symmetric: bool
    lambda_min: float | None
    condition_number: float | None
    clipped: int | None  # eigenvalues below 0 by rounding alone


NOT_A_GRAM_MATRIX = Diagnostics(symmetric=False, lambda_min=None, condition_number=None, clipped=None)


def diagnose(kernel: Tensor, *, entry_error: float = 0.0) -> Diagnostics:
    """Diagnostics of a kernel of shape (n, n); or (n, n, k, k), read as one (n k, n k) matrix, as are the
    axes (n, n, H, H, W, W) of positions; or (n, n, k), read as the k diagonal blocks of one.

    Raises:
        NumericalError: an eigenvalue is below `-n max(eps, entry_error) lambda_max`, which the stated
            error of an entry cannot explain.
    """
    if kernel.shape[0] != kernel.shape[1]:
        return NOT_A_GRAM_MATRIX
    blocks = as_blocks(kernel)
    if not torch.equal(blocks, blocks.mT):
        return NOT_A_GRAM_MATRIX
    rows = blocks.shape[-1]
    if rows > LARGEST:
        return Diagnostics(symmetric=True, lambda_min=None, condition_number=None, clipped=None)
    eigenvalues = torch.linalg.eigvalsh(blocks.double())
    low, high = float(eigenvalues.min()), float(eigenvalues.max())
    if low < -rows * max(torch.finfo(kernel.dtype).eps, entry_error) * max(high, 0.0):
        raise NumericalError(
            f"the kernel is not positive semi-definite: its eigenvalues run from {low:.3g} to {high:.3g}",
            hint="scale the inputs to entries of order 1, or use float64",
        )
    condition = high / low if low > 0 else None
    return Diagnostics(True, low, condition, int((eigenvalues < 0).sum()))


def as_blocks(kernel: Tensor) -> Tensor:
    """The diagonal blocks (blocks, rows, rows) of a kernel's Gram matrix over inputs and, where they come in
    pairs of axes, positions and outputs; a single last axis counts blocks."""
    n, _, *axes = kernel.shape
    blocks = axes[-1] if len(axes) % 2 else 1
    pairs = len(axes) // 2
    order = [2 * i + side for side in (0, 1) for i in range(pairs + 1)]
    square = kernel.reshape(*kernel.shape[: 2 * pairs + 2], blocks).permute(-1, *order)
    rows = n * math.prod(axes[: 2 * pairs : 2])
    return square.reshape(blocks, rows, rows)
