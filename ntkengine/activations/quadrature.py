"""Expectations over one Gaussian pair at a time, by nested quadrature on panels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ntkengine.activations.panels import ORDER, Curve, Splits

if TYPE_CHECKING:
    from torch import Tensor

HALF = 4.5  # standard deviations: on panels this wide 16 nodes integrate the normal density to rounding
TINY = 1e-150  # a standard deviation: the derivative at 0 is meant as the mean of those on either side
STEEPEST = 1e-200
CHUNK = 2**18  # nodes at a time, so that what is between two operations stays in the cache


class Pairs(NamedTuple):
    """Pairs of Gaussian variables, flat: the larger and the smaller variance, and the angle."""

    larger: Tensor
    smaller: Tensor
    angle: Tensor

    def at(self, index: Tensor | slice) -> Pairs:
        return Pairs(*(each[index] for each in self))


@dataclass(frozen=True)
class Normal:
    """Quadrature of a standard normal variable over [-reach, reach], on panels at most `width` wide."""

    reach: float
    width: float
    order: int = ORDER

    @property
    def panels(self) -> int:
        return 2 * int(np.ceil(self.reach / self.width))

    def nodes(self, *ends: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes and weights for each row of further ends of panels, (rows, ends) to (rows, nodes)."""
        import torch

        even = torch.linspace(-self.reach, self.reach, self.panels + 1, dtype=torch.float64)
        clipped = (each.clamp(-self.reach, self.reach) for each in ends)
        every = torch.cat([even.expand(*ends[0].shape[:-1], -1), *clipped], dim=-1).sort(dim=-1).values
        x, w = legendre(self.order)
        half = 0.5 * every.diff(dim=-1)[..., None]
        u = (0.5 * (every[..., :-1] + every[..., 1:])[..., None] + half * x).flatten(-2)
        return u, (half * w).flatten(-2) * torch.exp(-0.5 * u * u) * (2.0 * torch.pi) ** -0.5


@dataclass(frozen=True)
class Quadrature:
    """Nested quadrature of a curve on the panels of its splits and of the normal law."""

    curve: Curve
    splits: Splits
    normal: Normal

    def __call__(self, pairs: Pairs) -> Tensor:
        """Value and slope of the dual on each pair, (2, pairs)."""
        import torch

        order, places = self.normal.order, len(self.splits.places)
        inner = order * (self.normal.panels + places)
        outer = inner + order * (places + 4 * len(self.splits.centres))
        size = max(1, CHUNK // (inner * outer))
        parts = [self._nested(pairs.at(slice(i, i + size))) for i in range(0, len(pairs.angle), size)]
        return torch.cat(parts, dim=1)

    def _nested(self, pairs: Pairs) -> Tensor:
        """With `z = sqrt(q11) u`, `z' = sqrt(q22) (c u + s v)`, c and s the angle's cosine and sine, the
        outer integral runs over u and sees the panels of z, and those of z' smoothed over the width s / c."""
        import torch

        curve = self.curve
        first, second = (torch.sqrt(q)[:, None] for q in pairs[:2])
        above, below = first.clamp(min=TINY), second.clamp(min=TINY)
        c, s = torch.cos(pairs.angle)[:, None], torch.sin(pairs.angle).abs()[:, None]
        steep = below * torch.where(c.abs() < STEEPEST, STEEPEST, c)
        places, centres = (torch.as_tensor(each) for each in (self.splits.places, self.splits.centres))
        around = HALF * torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)
        layers = (centres / steep)[..., None] + (s / c.abs().clamp(min=STEEPEST))[..., None] * around
        u, outer = self.normal.nodes(places / above, places / steep, layers.flatten(1))
        mean = c * u
        shifted = (places / below)[:, None, :] - mean[..., None]
        v, inner = self.normal.nodes(shifted / s.clamp(min=STEEPEST)[..., None])
        along = mean[..., None] + s[..., None] * v
        value = (curve.function(second[..., None] * along) * inner).sum(-1) * curve.function(first * u)
        slope = (curve.derivative(below[..., None] * along) * inner).sum(-1) * curve.derivative(above * u)
        return (torch.stack([value, slope]) * outer).sum(-1)


@cache
def legendre(order: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [-1, 1]."""
    import torch

    x, w = np.polynomial.legendre.leggauss(order)
    return torch.as_tensor(x), torch.as_tensor(w)
