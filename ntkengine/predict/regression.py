"""The end of training with a ridge: kernel regression, its leave-one-out errors, stable learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ntkengine.errors import NumericalError
from ntkengine.losses import AnyLoss, HalfSum
from ntkengine.predict.modes import columns, square, squared_rate

if TYPE_CHECKING:
    from torch import Tensor


def leave_one_out(kernel: Tensor, y: Tensor, *, ridge: float = 0.0, f0: Tensor | float = 0.0) -> Tensor:
    """Errors `f_(-i)(x_i) - y_i` (n, k) at the end of training on all points but i, without training again:

    `f_(-i)(x_i) - y_i = -(G_ii)^-1 (G (y - f_0))_i`, `G = (K + ridge)^-1`, G_ii a number or a k x k block.

    Args:
        kernel: K(X, X), (n, n) or (n, n, k, k).
        y: targets (n, k).
        ridge: as in `gradient_flow`.
        f0: outputs at the start, (n, k) or a number.

    Raises:
        NumericalError: K + ridge is singular to rounding: then a point more or less changes the others.

    Source: Rasmussen and Williams (2006), eq. 5.12; Allen (1974).

    >>> import torch
    >>> K = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    >>> y = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    >>> leave_one_out(K, y).flatten().tolist()  # f(x_1) = 0 from the second, f(x_2) = 0.5 from the first
    [-1.0, 0.5]
    """
    import torch

    n, k = y.shape
    factor = cholesky(kernel, ridge)
    inverse = torch.cholesky_inverse(factor)
    weights = inverse @ columns(kernel, y - f0)
    if kernel.ndim == 2:
        return -weights / inverse.diagonal()[:, None]
    blocks = inverse.reshape(n, k, n, k)[range(n), :, range(n), :]
    errors: Tensor = -torch.linalg.solve(blocks, weights.reshape(n, k))
    return errors


def cholesky(kernel: Tensor, ridge: float) -> Tensor:
    """The Cholesky factor of K + ridge, for a kernel (n, n) or (n, n, k, k).

    Raises:
        NumericalError: it is singular to rounding.
    """
    import torch

    matrix = square(kernel)
    sum_ = matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype)
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(sum_)
    pivots = factor.diagonal()
    smallest = 100.0 * len(matrix) * torch.finfo(matrix.dtype).eps * float(sum_.diagonal().max())
    if int(failed) or not float(pivots.min()) ** 2 > smallest:
        raise NumericalError(
            "the kernel plus ridge is singular to rounding",
            pointer="/ridge",
            hint="use a larger ridge, or an eigendecomposition, which leaves out what is singular",
        )
    return factor


def largest_learning_rate(
    kernel: Tensor | float,
    n: int,
    k: int,
    *,
    momentum: float = 0.0,
    loss: AnyLoss | None = None,
    ridge: float = 0.0,
) -> float:
    """The learning rate from which on gradient descent diverges, `2 (1 + momentum) / (c (l_max + ridge))`.

    c is the loss's rate factor: the rate is one for the loss as it stands. Infinite for a kernel that is 0.

    Args:
        kernel: (n, n) or (n, n, k, k), or its largest eigenvalue.
        n: number of training points.
        k: number of outputs.

    Source: Polyak (1964) for the momentum.

    >>> largest_learning_rate(4.0, 1, 1), largest_learning_rate(4.0, 1, 1, momentum=0.5)
    (0.5, 0.75)
    """
    import torch

    high = float(torch.linalg.eigvalsh(square(kernel))[-1]) if torch.is_tensor(kernel) else float(kernel)
    rate = squared_rate(loss or HalfSum(), n, k) * (high + ridge)
    return 2.0 * (1.0 + momentum) / rate if rate > 0 else float("inf")
