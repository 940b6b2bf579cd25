"""A layer's share of the empirical NTK from its inputs and the derivatives of its outputs. Torch-free.

For weights W[k, o] that multiply x[p, k] at positions p, `df_a / dW[k, o] = sum_p g[a, p, o] h[p, k]`, with
h what they read and g the derivative of output a by what they give: no Jacobian of the network is formed
(Novak et al., "Fast finite width neural tangent kernel", 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


LONGEST = 2**14  # numbers in one sum

Shares = Mapping[str, float]  # weights of a layer's tensors, by name


def sum_in_place(parts: Iterator[Tensor]) -> Tensor:
    """The sum of some tensors, two of which exist at a time."""
    total = next(parts)
    for part in parts:
        total += part
    return total


@dataclass(frozen=True)
class Contraction:
    """Which output indices of two Jacobians survive, as einsum letters: J_1[i, a], J_2[j, b]."""

    left: str
    right: str
    out: str

    def product(self, first: Tensor, second: Tensor) -> Tensor:
        """`sum_p first[i, a, p] second[j, b, p]`, shape (n1, n2, *out)."""
        import torch

        letters = f"i{self.left}p,j{self.right}p->ij{self.out}"
        # in parts: one long sum of float32 numbers loses digits
        parts = zip(torch.split(first, LONGEST, -1), torch.split(second, LONGEST, -1), strict=True)
        return sum_in_place(torch.einsum(letters, a, b) for a, b in parts)


@dataclass(frozen=True)
class Derivatives:
    """A layer's inputs h (n, *in_shape) and `df_a / d(its output)`, g (n, k, *out_shape)."""

    h: Tensor
    g: Tensor


@dataclass(frozen=True)
class Sums:
    """What weights do at each of some positions: `width` sums over `fan_in` numbers."""

    positions: int
    fan_in: int
    width: int
    shared: bool = True  # the same weights at every position

    def by_pairs(self, n1: int, n2: int, outputs: int) -> float:
        """Multiplications for `outputs` pairs of outputs, by the products of all pairs of positions."""
        return float(n1 * n2 * self.positions**2 * (self.fan_in + outputs * self.width))

    def by_jacobian(self, n1: int, n2: int, k: int, outputs: int) -> float:
        """Multiplications by the Jacobians of this layer's weights."""
        weights = self.fan_in * self.width
        return float((n1 + n2) * k * self.positions * weights + n1 * n2 * outputs * weights)

    def cost(self, n1: int, n2: int, k: int, outputs: int) -> float:
        """Multiplications by the cheaper way."""
        if not self.shared:
            return float(self.positions * n1 * n2 * (self.fan_in + outputs * self.width))
        return min(self.by_pairs(n1, n2, outputs), self.by_jacobian(n1, n2, k, outputs))


def shared_block(
    left: Derivatives, right: Derivatives, contraction: Contraction, scales: tuple[float, float]
) -> Tensor:
    """The share of weights, and of a bias, that are the same at all positions, scaled by the squared
    multipliers of the weights and of the bias (0: none).

    Args:
        left, right: h (n, P, fan_in), g (n, k, P, width).
    """
    import torch

    n1, n2, k = len(left.h), len(right.h), left.g.shape[1]
    sums = Sums(left.h.shape[1], left.h.shape[2], left.g.shape[3])
    outputs = k if contraction.left == contraction.right else k * k
    if sums.by_pairs(n1, n2, outputs) <= sums.by_jacobian(n1, n2, k, outputs):
        inner = torch.einsum("ipd,jqd->ijpq", left.h, right.h) * scales[0] + scales[1]
        return from_pairs(left, right, contraction, inner)
    block = scales[0] * contraction.product(jacobian(left), jacobian(right))
    if scales[1]:
        block += scales[1] * contraction.product(left.g.sum(2), right.g.sum(2))
    return block


def jacobian(sides: Derivatives) -> Tensor:
    """`sum_p g[i, a, p, o] h[i, p, d]`, shape (n, k, o d), by one product of matrices an input."""
    n, k, _, width = sides.g.shape
    product = sides.g.transpose(2, 3).flatten(1, 2) @ sides.h
    return product.reshape(n, k, width * sides.h.shape[2])


def from_pairs(left: Derivatives, right: Derivatives, contraction: Contraction, inner: Tensor) -> Tensor:
    """`sum_pq inner[i, j, p, q] (g_p . g'_q)`: products of what two positions read, times what they do."""
    import torch

    if left.g.shape[2] == right.g.shape[2] == 1:
        outer = contraction.product(left.g[:, :, 0], right.g[:, :, 0])
        return outer * inner.reshape(*inner.shape[:2], *[1] * (outer.ndim - 2))
    letters = f"i{contraction.left}po,j{contraction.right}qo,ijpq->ij{contraction.out}"
    return torch.einsum(letters, left.g, right.g, inner)


def separate_block(
    left: Derivatives, right: Derivatives, contraction: Contraction, scales: tuple[float, float]
) -> Tensor:
    """The same for weights of each position's own: `sum_p (c_W^2 h_p . h'_p + c_b^2) (g_p . g'_p)`."""
    import torch

    inner = torch.einsum("ipd,jpd->ijp", left.h, right.h) * scales[0] + scales[1]
    letters = f"i{contraction.left}po,j{contraction.right}po,ijp->ij{contraction.out}"
    return torch.einsum(letters, left.g, right.g, inner)
