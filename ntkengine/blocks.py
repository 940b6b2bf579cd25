"""What layer-by-layer implementations of the empirical NTK pass to each other. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Contraction:
    """Which output indices of two Jacobians survive, as einsum letters: J_1[i, a], J_2[j, b]."""

    left: str
    right: str
    out: str

    def product(self, first: Tensor, second: Tensor) -> Tensor:
        """`sum_p first[i, a, p] second[j, b, p]`, shape (n1, n2, *out)."""
        import torch

        return torch.einsum(f"i{self.left}p,j{self.right}p->ij{self.out}", first, second)


@dataclass(frozen=True)
class Derivatives:
    """A layer's inputs h (n, *in_shape) and `df_a / d(its output)`, g (n, k, *out_shape)."""

    h: Tensor
    g: Tensor
