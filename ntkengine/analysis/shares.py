"""Which layers a kernel comes from. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def layer_shares(kernels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The share of each layer in the trace of a kernel, by path; they add up to 1.

    `s_l = sum_i sum_a Theta_l[i, i, a, a] / sum_l' sum_i sum_a Theta_l'[i, i, a, a]`

    Args:
        kernels: Theta_l, of the same form for every layer, (n, n) or (n, n, k, k): what
            `empirical_ntk_by_layer` gives.

    >>> import torch
    >>> shares = layer_shares({"layers.0": 3.0 * torch.eye(2), "layers.2": torch.eye(2)})
    >>> {path: float(share) for path, share in shares.items()}
    {'layers.0': 0.75, 'layers.2': 0.25}
    """
    traces = {path: trace(kernel) for path, kernel in kernels.items()}
    total = sum(traces.values())
    return {path: part / total for path, part in traces.items()}


def trace(kernel: Tensor) -> Tensor:
    """The sum over equal inputs and, where there are blocks, equal outputs."""
    blocks = kernel.diagonal(dim1=0, dim2=1)
    return blocks.diagonal(dim1=0, dim2=1).sum() if blocks.ndim > 1 else blocks.sum()
