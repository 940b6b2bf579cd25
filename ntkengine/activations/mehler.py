"""Expectations over all pairs at once, by Hermite series.

For variances q and q' and the cosine c, `E[g(z) g(z')] = sum_k a_k(q) a_k(q') c^k` (Mehler, 1866), where
`a_k(q) = E[g(sqrt(q) u) h_k(u)]`, h_k the orthonormal Hermite polynomials of a standard normal u.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ntkengine.activations.panels import ORDER
from ntkengine.activations.quadrature import TINY, Normal

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.activations.panels import Curve, Splits

TERMS = 768  # of a series, in whole blocks
BLOCK = 32
NARROW = 0.5  # width of panels: h_768 turns twice on one of them, which 16 nodes resolve with room to spare
CHUNK = 2**21  # numbers at a time
MOST_HALVINGS = 4  # of panels, before each variance gets nodes of its own
LEFT = 1e-15  # share of the power that a series may leave out


@dataclass(frozen=True)
class Series:
    """Coefficients (terms, ...) over a set of variances, and the power `E[g^2] - sum_k a_k^2` (...) that
    they leave out (Parseval)."""

    coefficients: Tensor
    power: Tensor
    left: Tensor

    def shaped(self, index: Tensor) -> Series:
        """The series of the variances at those places."""
        return Series(self.coefficients[:, index], self.power[index], self.left[index])


def series(curve: Curve, splits: Splits, reach: float, q: Tensor) -> tuple[Series, Series]:
    """The series of a curve and of its derivative at variances q (n,), ascending."""
    import torch

    places = torch.as_tensor(splits.places)
    parts = []
    for roots, width in groups(splits, torch.sqrt(q)[:, None]):
        normal, ends = Normal(reach, width or NARROW), places if width is None else places[:0]
        arrays = BLOCK if width is None else 2  # for each variance and node
        size = max(1, CHUNK // (ORDER * (normal.panels + len(ends)) * arrays))
        for root in torch.split(roots, size):
            u, weights = normal.nodes(ends / root.clamp(min=TINY) if width is None else ends[None])
            values = torch.stack(
                [curve.function(root * u), curve.derivative(root.clamp(min=TINY) * u)], dim=1
            )
            parts.append(expand(values, u, weights))
    coefficients, power, left = (torch.cat(each, dim=-1) for each in zip(*parts, strict=True))
    value, slope = (Series(coefficients[:, i], power[i], left[i]) for i in range(2))
    return value, slope


def groups(splits: Splits, roots: Tensor) -> Iterator[tuple[Tensor, float | None]]:
    """Standard deviations (n, 1), ascending, that can share nodes u, and the width of their panels: so narrow
    that root u moves by no more than the narrowest panel of the function. Kinks but at 0, where panels end,
    lie elsewhere for each of them: then, and where panels would be too many, None."""
    import torch

    if splits.kinks.any():
        yield roots, None
        return
    halvings = torch.ceil(torch.log2(NARROW * roots[:, 0] / splits.narrowest)).clamp(0.0, MOST_HALVINGS + 1.0)
    for number in torch.unique(halvings).tolist():
        yield roots[halvings == number], None if number > MOST_HALVINGS else NARROW / 2.0**number


def expand(values: Tensor, u: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients (terms, 2, n) of values (n, 2, nodes), power and what is left of it (2, n); terms end
    where nothing is left. Nodes u and weights have n rows, or one for all."""
    import torch

    weighted = values * weights[:, None]
    power = (weighted * values).sum(-1)
    found, sums = [], torch.zeros_like(power)
    last, current = torch.zeros_like(u), torch.ones_like(u)
    for start in range(0, TERMS, BLOCK):
        block = []
        for k in range(start, start + BLOCK):
            block.append(current)
            last, current = current, (u * current - k**0.5 * last) / (k + 1) ** 0.5
        polynomials = torch.stack(block, dim=1)  # (rows of u, BLOCK, nodes)
        one_for_all = len(polynomials) == 1
        found.append(weighted @ (polynomials[0].T if one_for_all else polynomials.mT))
        sums = sums + found[-1].square().sum(-1)
        if bool((power - sums <= LEFT * power).all()):
            break
    coefficients = torch.cat(found, dim=-1).movedim(-1, 0)
    missing = coefficients.new_zeros(TERMS - len(coefficients), *coefficients.shape[1:])
    left = (power - sums).clamp(min=0.0) + LEFT * power
    return torch.cat([coefficients, missing]).movedim(1, 2), power.T, left.T


def summed(first: Series, second: Series, cosine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`sum_k a_k b_k c^k`, the bound `|c|^terms sqrt(left left')` on what is left out, and what it may be
    compared to, `sqrt(power power')`; shapes broadcast against each other."""
    import torch

    used = first.coefficients.flatten(1).any(1).nonzero()
    terms = 1 + int(used.max()) if len(used) else 1
    total = torch.zeros_like(cosine)
    for a, b in zip(first.coefficients[:terms].flip(0), second.coefficients[:terms].flip(0), strict=True):
        total.mul_(cosine).addcmul_(a, b)
    left = cosine.abs() ** terms * torch.sqrt(first.left) * torch.sqrt(second.left)
    return total, left, torch.sqrt(first.power) * torch.sqrt(second.power)
