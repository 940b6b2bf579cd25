"""What the spectrum of a Gram matrix says about using it. Torch-free to import."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ntkengine.errors import NumericalError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 1500  # rows up to which all eigenvalues are computed for an answer


@dataclass(frozen=True)
class Diagnostics:
    """Of a Gram matrix: None where it is not square, not of one set of inputs, or too large to ask."""

    symmetric: bool
    lambda_min: float | None
    condition_number: float | None  # that of rounding, where the matrix is singular
    clipped: int | None  # eigenvalues below 0 by rounding alone


class Spectrum(NamedTuple):
    """Of the n k eigenvalues of a kernel: the largest, descending, (r,), and two numbers that sum them up."""

    eigenvalues: Tensor
    effective_rank: Tensor
    condition_number: Tensor


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
    import torch

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
    condition = float(condition_number(eigenvalues.flatten().to(kernel.dtype))) if high > 0 else None
    return Diagnostics(True, low, condition, int((eigenvalues < 0).sum()))


def spectrum(kernel: Tensor, top: int = 10) -> Spectrum:
    """The largest eigenvalues of a kernel, its effective rank and its condition number.

    Can be mapped over many kernels by `torch.vmap`.

    Args:
        kernel: K, (n, n), or (n, n, k, k), read as the (n k, n k) matrix that it stands for.
        top: how many eigenvalues are kept, at most.

    >>> import torch
    >>> found = spectrum(torch.diag(torch.tensor([1.0, 3.0, 2.0])), top=2)
    >>> [round(value, 5) for value in found.eigenvalues.tolist()]
    [3.0, 2.0]
    >>> round(float(found.effective_rank), 4), round(float(found.condition_number), 4)
    (2.5714, 3.0)
    """
    import torch

    matrix = as_blocks(kernel)[0]
    eigenvalues = torch.linalg.eigvalsh((matrix + matrix.mT) / 2).flip(0)
    return Spectrum(eigenvalues[:top], effective_rank(kernel), condition_number(eigenvalues))


def effective_rank(kernel: Tensor) -> Tensor:
    """`(tr K)^2 / |K|_F^2 = (sum_i l_i)^2 / sum_i l_i^2`, the participation ratio; a scalar.

    Between 1 and n k: the number of equal eigenvalues that would have this ratio. It needs no eigenvalues,
    and what rounding leaves of those that are 0 does not change it, unlike the exponential of the entropy.
    NaN where the kernel vanishes. Argument as in `spectrum`.

    >>> import torch
    >>> float(effective_rank(torch.diag(torch.tensor([2.0, 2.0, 0.0]))))
    2.0
    """
    matrix = as_blocks(kernel)[0]
    return matrix.diagonal().sum() ** 2 / (matrix**2).sum()


def condition_number(eigenvalues: Tensor) -> Tensor:
    """`l_max / max(l_min, n eps l_max)` of all n eigenvalues of a positive semi-definite matrix; a scalar.

    What is below n eps l_max is rounding: a singular matrix has the condition number 1 / (n eps), which is to
    be read as `at least`. NaN where the matrix vanishes.

    >>> import torch
    >>> float(condition_number(torch.tensor([4.0, 2.0]))), float(condition_number(torch.tensor([1.0, 0.0])))
    (2.0, 4194304.0)
    """
    import torch

    largest = eigenvalues.max()
    floor = len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps * largest
    return largest / torch.maximum(eigenvalues.min(), floor)


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
