"""How alike two kernels are, how alike a kernel and its targets, and how fast a kernel moves. Torch-free to
import.

A kernel is (n, n), or (n, n, k, k) with a block for each pair of inputs; inner products and norms are those
of all of its entries, so that the second form is read as the (n k, n k) matrix that it stands for. All
functions are differentiable, and can be mapped over many kernels by `torch.vmap`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def kernel_distance(kernel: Tensor, reference: Tensor) -> Tensor:
    """`|K - K_0|_F / |K_0|_F`, the relative change of a kernel; a scalar, NaN where both vanish.

    Args:
        kernel: K, (n, n) or (n, n, k, k).
        reference: K_0, of the same shape.

    >>> import torch
    >>> float(kernel_distance(3.0 * torch.eye(2), torch.eye(2)))
    2.0
    """
    return norm(kernel - reference) / norm(reference)


def kernel_velocity(before: Tensor, after: Tensor, dt: float | Tensor, reference: Tensor) -> Tensor:
    """`|K(t + dt) - K(t)|_F / (dt |K_0|_F)`: relative change a unit of time; a scalar, of unit 1 / time.

    Unlike the velocity of Fort et al. (2020), which is that of the cosine distance, it sees growth: a kernel
    that only becomes larger has one.

    Args:
        before: K(t), (n, n) or (n, n, k, k).
        after: K(t + dt), of the same shape.
        dt: the time between them.
        reference: K_0, of the same shape.

    >>> import torch
    >>> round(float(kernel_velocity(torch.eye(2), 1.5 * torch.eye(2), 0.25, torch.eye(2))), 6)
    2.0
    """
    return norm(after - before) / (dt * norm(reference))


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """`1 - <K, K'> / (|K|_F |K'|_F)`, in [0, 1] for kernels; a scalar, NaN where one vanishes.

    Computed as half the squared distance of the kernels over their norms, which loses no digits where they
    are alike. Source: Fort et al., "Deep learning versus kernel learning" (2020), equation 3.

    Args:
        first: K, (n, n) or (n, n, k, k).
        second: K', of the same shape.

    >>> import torch
    >>> float(cosine_distance(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))) - (1 - 0.5**0.5) < 1e-7
    True
    """
    return 0.5 * norm(first / norm(first) - second / norm(second)) ** 2


def alignment(kernel: Tensor, targets: Tensor) -> Tensor:
    """`<K, Y> / (|K|_F |Y|_F)` with the targets' kernel Y: kernel-target alignment; a scalar.

    `Y[i, j] = sum_a y_ia y_ja` for a kernel (n, n), and `Y[i, j, a, b] = y_ia y_jb` for one of blocks, for
    which |Y|_F is |y|^2. 1 where the kernel knows nothing but the targets; at most 1, at least 0 for a
    positive semi-definite kernel. NaN where the kernel or the targets vanish.
    Source: Cristianini et al., "On kernel-target alignment" (2001), definition 1.

    Args:
        kernel: K, (n, n) or (n, n, k, k).
        targets: y, (n, k).

    >>> import torch
    >>> y = torch.tensor([[1.0], [-1.0]])
    >>> float(alignment(y @ y.T, y)), round(float(alignment(torch.eye(2), y)), 6)
    (1.0, 0.707107)
    """
    return cosine(kernel, kernel_of(targets, kernel.ndim))


def centred_alignment(kernel: Tensor, targets: Tensor) -> Tensor:
    """The alignment of the centred kernel and the centred targets; a scalar.

    `K_c = H K H` with `H_ij = delta_ij - 1/n` over inputs, for each pair of outputs apart; the targets'
    kernel is that of y less its mean. NaN where the targets are constant: nothing is left of them.
    Source: Cortes, Mohri and Rostamizadeh, "Algorithms for learning kernels based on centered alignment"
    (2012), definition 4. Arguments as in `alignment`.

    >>> import torch
    >>> y = torch.tensor([[3.0], [1.0]])
    >>> round(float(centred_alignment(torch.eye(2), y)), 6)
    1.0
    """
    return cka(kernel, kernel_of(targets, kernel.ndim))


def cka(first: Tensor, second: Tensor) -> Tensor:
    """`<K_c, K'_c> / (|K_c|_F |K'_c|_F)`: the centred alignment of two kernels, in [0, 1]; a scalar.

    `K_c = H K H` with `H_ij = delta_ij - 1/n` over inputs, for each pair of outputs apart.
    Source: Cortes et al. (2012), definition 4; Kornblith et al. (2019), equation 3, of which it is the form
    for given kernels. NaN where a kernel is constant.

    Args:
        first: K, (n, n) or (n, n, k, k).
        second: K', of the same shape.

    >>> import torch
    >>> kernel = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> round(float(cka(kernel, 5.0 * kernel + 7.0)), 6)
    1.0
    """
    return cosine(centred(first), centred(second))


def centred(kernel: Tensor) -> Tensor:
    """`H K H` over inputs, `H_ij = delta_ij - 1/n`: less the means of rows and of columns."""
    rows = kernel - kernel.mean(0, keepdim=True)
    return rows - rows.mean(1, keepdim=True)


def kernel_of(targets: Tensor, axes: int) -> Tensor:
    """The kernel of targets (n, k), with as many axes as the kernel that it is compared with."""
    if axes == 2:
        return targets @ targets.mT
    return targets[:, None, :, None] * targets[None, :, None, :]


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """`<K, K'> / (|K| |K'|)`."""
    return ((first / norm(first)) * (second / norm(second))).sum()


def norm(kernel: Tensor) -> Tensor:
    """The Frobenius norm of all entries."""
    return (kernel**2).sum().sqrt()
