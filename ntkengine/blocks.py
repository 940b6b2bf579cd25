"""A layer's share of the empirical NTK from its inputs and the derivatives of its outputs. Torch-free.

For weights W[k, o] that multiply x[p, k] at positions p, `df_a / dW[k, o] = sum_p g[a, p, o] h[p, k]`, with
h what they read and g the derivative of output a by what they give: no Jacobian of the network is formed
(Novak et al., "Fast finite width neural tangent kernel", 2022).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


LONGEST = 2**14  # numbers in one sum: long ones of float32 lose digits
FEW = 256  # numbers of a gradient, for which the outputs' shares are summed by one product of a copy
CACHED = 2**23  # bytes of gradients that are used while caches hold them
PROBES = 8  # random sums that tell whether derivatives of outputs are in proportion
NARROWEST = 16  # numbers read, the gradients of whose weights are taken at a time, whatever they hold
STRIPS = 4  # of the rows of a matrix whose product with itself is taken: the fewer, the more is done twice
FEWEST = 64  # rows of such a strip

Shares = Mapping[str, float]  # weights of a layer's tensors, by name


def sum_in_place(parts: Iterator[Tensor]) -> Tensor:
    """The sum of some tensors, two of which exist at a time."""
    total = next(parts)
    for part in parts:
        total += part
    return total


def empty(like: Tensor, *shape: int) -> Tensor:
    """Memory for numbers of such a kind, from numpy, which asks the system for large pages: torch takes small
    ones, and the first touch of these costs as much as a layer's gradients."""
    import numpy as np
    import torch

    if like.device.type != "cpu":
        return like.new_empty(shape)
    count = math.prod(shape)
    memory = np.empty(max(1, count) * like.itemsize, np.uint8)  # of no bytes there is no view
    return torch.from_numpy(memory).view(like.dtype)[:count].view(shape)


def keep_freed_memory() -> None:
    """Let glibc use again what is freed: it gives back to the system all that is more than twice the largest
    piece freed so far, 32 MB at most, and the first touch of each page costs anew."""
    import torch

    torch.empty(2**25 - 2**13, dtype=torch.uint8)  # never touched, so that it takes no memory


@dataclass(frozen=True)
class Contraction:
    """Which output indices of two Jacobians survive, as einsum letters: J_1[i, a], J_2[j, b]."""

    left: str
    right: str
    out: str

    def pairs(self, k: int) -> int:
        """How many pairs of k outputs."""
        return k if self.left == self.right else k * k

    def product(self, first: Tensor, second: Tensor) -> Tensor:
        """`sum_p first[i, a, p] second[j, b, p]`, shape (n1, n2, *out)."""
        import torch

        itself = same(first, second)
        if self.left != self.right:
            shape = (*first.shape[:2], *second.shape[:2])
            flat = matrix_product(first.flatten(0, 1), second.flatten(0, 1), itself=itself)
            return flat.reshape(shape).transpose(1, 2)
        if not self.out and (first.is_contiguous() or first.shape[2] < FEW):
            return matrix_product(first.flatten(1), second.flatten(1), itself=itself)
        each = (matrix_product(first[:, a], second[:, a], itself=itself) for a in range(first.shape[1]))
        return torch.stack(list(each), dim=-1) if self.out else sum_in_place(each)  # without a copy


def same(first: Tensor, second: Tensor) -> bool:
    """Whether both are the same numbers in memory."""
    return (first.data_ptr(), first.shape, first.stride()) == (
        second.data_ptr(),
        second.shape,
        second.stride(),
    )


def matrix_product(first: Tensor, second: Tensor, *, itself: bool) -> Tensor:
    """`first @ second.T`; of a matrix with itself little more than half of it, and its mirror image."""
    import torch

    n = len(first)
    strip = max(FEWEST, -(-n // STRIPS)) if itself else n
    product = first.new_empty(n, len(second))
    parts = list(zip(torch.split(first, LONGEST, 1), torch.split(second, LONGEST, 1), strict=True))
    for start in range(0, n, max(strip, 1)):
        stop, left = start + strip, start if itself else 0
        block = product[start:stop, left:]
        for i, (a, b) in enumerate(parts):
            block.addmm_(a[start:stop], b[left:].T, beta=float(i > 0))
        if itself:
            product[stop:, start:stop] = block[:, strip:].T
    return product


@dataclass(frozen=True)
class Derivatives:
    """What a layer's weights read at positions, h (n, P, fan_in), and `df_a / d(its output)`, g (n, P, k,
    width): products over positions, and over outputs and width, are products of matrices as they are."""

    h: Tensor
    g: Tensor

    @classmethod
    def room(cls, n: int, k: int, h: Tensor, g: Tensor) -> Derivatives:
        """For n inputs and k outputs, given those of some."""
        return cls(empty(h, n, *h.shape[1:]), empty(g, n, g.shape[2], k, g.shape[3]))

    def write(self, rows: slice, outputs: slice, h: Tensor, g: Tensor) -> None:
        """Those of some inputs and outputs, g (n, k, P, width)."""
        self.h[rows] = h
        self.g[rows, :, outputs] = g.transpose(1, 2)


@dataclass(frozen=True)
class Gradients:
    """`df_a / dW` and `df_a / db` of inputs, (n, k, numbers of W) and (n, k, width), without multipliers, of
    weights that are the same at all positions."""

    weights: Tensor
    biases: Tensor
    groups: int

    @classmethod
    def room(cls, n: int, k: int, h: Tensor, g: Tensor, groups: int) -> Gradients:
        """For n inputs and k outputs, given what is read and the derivatives of some."""
        width = g.shape[-1]
        return cls(empty(g, n, k, h.shape[-1] // groups * width), empty(g, n, k, width), groups)

    def write(self, rows: slice, outputs: slice, h: Tensor, g: Tensor) -> None:
        """Those of some inputs and outputs: `sum_p g[i, a, p, o] h[i, p, d]`, in which o and d are of the
        same group, and `sum_p g[i, a, p, o]`: a batch of products of matrices for each output, in place, or
        for one alone of outputs in proportion to it."""
        import torch

        n, k, places, width = g.shape
        weights, groups = self.weights[rows, outputs], self.groups
        torch.sum(g, 2, out=self.biases[rows, outputs])
        if groups == width == h.shape[2]:
            torch.sum(g * h[:, None], 2, out=weights)
            return
        if k > 1 and (factors := in_proportion(g)) is not None:
            first = Gradients.room(n, 1, h, g, groups)
            first.write(slice(n), slice(1), h, g[:, :1])
            by_width = weights.view(n, k, width, -1)
            torch.mul(first.weights.view(n, 1, width, -1), factors[..., None], out=by_width)
            return
        read = h.reshape(n, places, groups, -1).transpose(1, 2).flatten(0, 1)
        given = g.reshape(n, k, places, groups, -1).permute(1, 0, 3, 4, 2)  # (k, n, groups, width of one, P)
        by_group = weights.view(n, k, groups, -1, read.shape[2])
        for a in range(k):
            if groups == 1:  # nothing is copied
                torch.bmm(given[a, :, 0], read, out=by_group[:, a, 0])
            else:
                by_group[:, a] = (given[a].flatten(0, 1) @ read).view_as(by_group[:, a])


def in_proportion(g: Tensor) -> Tensor | None:
    """Factors f (n, k, width) if `g[i, a, p, o] = f[i, a, o] g[i, 0, p, o]`, to rounding: behind the last
    mixing of positions, an average over all of them, derivatives of outputs differ in no other way.

    Random sums over positions have to be in proportion, of one row before those of all.
    """
    import torch

    n, _, places, _ = g.shape
    if places <= 2 * PROBES:  # sums are no less work
        return None
    generator = torch.Generator(g.device).manual_seed(0)
    random = torch.randn(places, PROBES, dtype=g.dtype, device=g.device, generator=generator)
    factors = None
    for rows in (g[:1], g) if n > 1 else (g,):
        sums = (rows.permute(1, 0, 3, 2) @ random).transpose(0, 1)  # (n, k, width, probes)
        first = sums[:, :1]
        factors = (sums * first).sum(-1) / first.square().sum(-1).clamp_min(torch.finfo(g.dtype).tiny)
        off = (sums - factors[..., None] * first).abs().amax(-1)
        if (off > 64 * torch.finfo(g.dtype).eps * sums.abs().amax(-1)).any():
            return None
    return factors


@dataclass(frozen=True)
class Sums:
    """What weights do at each of some positions: `width` sums over `fan_in` numbers."""

    positions: int
    fan_in: int
    width: int
    shared: bool = True  # the same weights at every position
    groups: int = 1  # of the numbers that are read, and of the sums, each with weights of its own
    tokens: bool = False  # weights are looked up, so that most of a gradient is zero
    scores: int = 0  # numbers for pairs of positions that attention makes of the sums

    def by_pairs(self, n1: int, n2: int, outputs: int) -> float:
        """Multiplications for `outputs` pairs of outputs, by the products of all pairs of positions."""
        pairs = self.positions**2 if self.shared else self.positions
        return float(n1 * n2 * pairs * (self.fan_in + outputs * self.width))

    def by_gradients(self, n1: int, n2: int, k: int, outputs: int) -> float:
        """Multiplications by the gradients of this layer's weights."""
        weights = self.fan_in * self.width
        return float((n1 + n2) * k * self.positions * weights + n1 * n2 * outputs * weights)

    def gradients_pay(self, n1: int, n2: int, k: int, outputs: int) -> bool:
        """Whether gradients are the cheaper way, or the only one."""
        if self.groups > 1:
            return True
        if self.tokens or not self.shared:
            return False
        return self.by_gradients(n1, n2, k, outputs) < self.by_pairs(n1, n2, outputs)

    def keeps_gradients(self, n1: int, n2: int, k: int, outputs: int) -> bool:
        """Whether gradients are kept, and not what they are made of, which may be less."""
        gradients = k * self.fan_in * self.width
        less = gradients < self.positions * (self.fan_in + k * self.width)
        return self.gradients_pay(n1, n2, k, outputs) and (self.groups > 1 or less)

    def cost(self, n1: int, n2: int, k: int, outputs: int) -> float:
        """Multiplications by the cheaper way."""
        if self.gradients_pay(n1, n2, k, outputs):
            return self.by_gradients(n1, n2, k, outputs)
        return self.by_pairs(n1, n2, outputs)


@dataclass(frozen=True)
class LinearMap:
    """Some tensors of a layer: weights that multiply what they read at positions, and maybe a bias."""

    sums: Sums
    squares: Mapping[str, float]  # of the multipliers, by tensor: of the weights, then of the bias

    @property
    def tensors(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.squares)

    def scales(self, weights: Shares) -> tuple[float, float]:
        """The squared multipliers of weights and bias, times the weights of their shares; 0 without one."""
        first, *rest = (square * weights.get(name, 0.0) for name, square in self.squares.items())
        return first, sum(rest)


def gradients_block(
    left: Gradients, right: Gradients, contraction: Contraction, scales: tuple[float, float]
) -> Tensor:
    """The share of weights, and of a bias, from their gradients, scaled by the squared multipliers of the
    weights and of the bias (0: none)."""
    block = contraction.product(left.weights, right.weights).mul_(scales[0])
    if scales[1]:
        block.add_(contraction.product(left.biases, right.biases), alpha=scales[1])
    return block


def shared_block(
    left: Derivatives, right: Derivatives, contraction: Contraction, scales: tuple[float, float]
) -> Tensor:
    """The same for weights that are the same at all positions, by whichever way is the cheaper one."""
    import torch

    (n1, places, fan_in), (_, _, k, width), n2 = left.h.shape, left.g.shape, len(right.h)
    if Sums(places, fan_in, width).gradients_pay(n1, n2, k, contraction.pairs(k)):
        return strips_block(left, right, contraction, scales)
    inner = torch.einsum("ipd,jqd->ijpq", left.h, right.h) * scales[0] + scales[1]
    return from_pairs(left, right, contraction, inner)


def strips_block(
    left: Derivatives, right: Derivatives, contraction: Contraction, scales: tuple[float, float]
) -> Tensor:
    """The same from gradients, of the weights of some numbers read at a time: these stay in the caches."""
    n, _, fan_in = left.h.shape
    k, width = left.g.shape[2:]
    strip = strip_of(n * k * width * left.h.itemsize)
    itself = same(left.h, right.h) and same(left.g, right.g)

    g1 = left.g.flatten(2).mT
    g2 = g1 if itself else right.g.flatten(2).mT

    def gradients(h: Tensor, g: Tensor, start: int) -> Tensor:
        return (g @ h[:, :, start : start + strip]).view(len(h), k, -1)

    def product(start: int) -> Tensor:
        first = gradients(left.h, g1, start)
        return contraction.product(first, first if itself else gradients(right.h, g2, start))

    block = sum_in_place(product(start) for start in range(0, fan_in, strip)).mul_(scales[0])
    if scales[1]:
        sums = left.g.sum(1), right.g.sum(1)
        block.add_(contraction.product(sums[0], sums[0] if itself else sums[1]), alpha=scales[1])
    return block


def strip_of(column: int) -> int:
    """How many numbers read make a strip, by the bytes of the gradients of the weights of one."""
    return max(NARROWEST, CACHED // max(1, column))


def from_pairs(left: Derivatives, right: Derivatives, contraction: Contraction, inner: Tensor) -> Tensor:
    """`sum_pq inner[i, j, p, q] (g_p . g'_q)`: products of what two positions read, times what they do."""
    import torch

    if left.g.shape[1] == right.g.shape[1] == 1:
        outer = contraction.product(left.g[:, 0], right.g[:, 0])
        return outer.mul_(inner.reshape(*inner.shape[:2], *[1] * (outer.ndim - 2)))
    letters = f"ip{contraction.left}o,jq{contraction.right}o,ijpq->ij{contraction.out}"
    return torch.einsum(letters, left.g, right.g, inner)


def separate_block(
    left: Derivatives, right: Derivatives, contraction: Contraction, scales: tuple[float, float]
) -> Tensor:
    """The same for weights of each position's own: `sum_p (c_W^2 h_p . h'_p + c_b^2) (g_p . g'_p)`."""
    import torch

    inner = torch.einsum("ipd,jpd->ijp", left.h, right.h) * scales[0] + scales[1]
    letters = f"ip{contraction.left}o,jp{contraction.right}o,ijp->ij{contraction.out}"
    return torch.einsum(letters, left.g, right.g, inner)
