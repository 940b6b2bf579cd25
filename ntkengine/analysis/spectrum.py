"""What the spectrum of a Gram matrix says about using it."""

from __future__ import annotations

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
    """Diagnostics of a kernel of shape (n, n), or (n, n, k, k) read as an (n k, n k) matrix.

    Raises:
        NumericalError: an eigenvalue is below `-n max(eps, entry_error) lambda_max`, which the stated
            error of an entry cannot explain.
    """
    gram = as_matrix(kernel)
    if gram is None or not torch.equal(gram, gram.T):
        return NOT_A_GRAM_MATRIX
    if len(gram) > LARGEST:
        return Diagnostics(symmetric=True, lambda_min=None, condition_number=None, clipped=None)
    eigenvalues = torch.linalg.eigvalsh(gram.double())
    low, high = float(eigenvalues[0]), float(eigenvalues[-1])
    if low < -len(gram) * max(torch.finfo(kernel.dtype).eps, entry_error) * max(high, 0.0):
        raise NumericalError(
            f"the kernel is not positive semi-definite: its eigenvalues run from {low:.3g} to {high:.3g}",
            hint="scale the inputs to entries of order 1, or use float64",
        )
    condition = high / low if low > 0 else None
    return Diagnostics(True, low, condition, int((eigenvalues < 0).sum()))


def as_matrix(kernel: Tensor) -> Tensor | None:
    """The Gram matrix of a kernel, rows (input, output); None where it is none."""
    n1, n2, *rest = kernel.shape
    if n1 != n2:
        return None
    if not rest:
        return kernel
    return kernel.transpose(1, 2).reshape(n1 * rest[0], -1) if len(rest) == 2 else None
