"""Interpolation of a dual where many pairs are near each other, by polynomials on boxes that adapt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ntkengine.activations.quadrature import Pairs

if TYPE_CHECKING:
    from torch import Tensor

    Rule = Callable[[Pairs], Tensor]

# Nodes along a side of a box up to that width: as a rule the misfit is rounding, or else it is divided.
SIDES = ((0.0, 1), (1e-7, 2), (1e-2, 6), (1e-1, 9), (0.8, 14))
RESOLVED = 2e-14  # the last coefficients of a polynomial, relative to its largest
WORTH = 2.0  # pairs for each node of a box, from which it pays
CHUNK = 2**14  # pairs at a time


@dataclass(frozen=True)
class Box:
    """Pairs by their coordinates (3, pairs): mean and half the distance of the logarithms of their
    variances, and the angle."""

    places: Tensor

    @property
    def low(self) -> Tensor:
        return self.places.amin(1)

    @property
    def widths(self) -> Tensor:
        return self.places.amax(1) - self.low

    def sides(self) -> list[int]:
        """The number of nodes along each side, the largest there is for sides too wide."""
        fitting = ([n for widest, n in SIDES if width <= widest] for width in self.widths.tolist())
        return [next(iter(each), SIDES[-1][1]) for each in fitting]

    def nodes(self, sides: list[int]) -> Tensor:
        """The coordinates of Chebyshev nodes, (3, nodes)."""
        import torch

        low, widths = self.low, self.widths
        axes = [low[i] + 0.5 * widths[i] * (1.0 + roots(n)) for i, n in enumerate(sides)]
        return torch.stack([each.flatten() for each in torch.meshgrid(*axes, indexing="ij")])

    def unit(self) -> Tensor:
        """The coordinates in [-1, 1]."""
        width = self.widths.clamp(min=1e-300)[:, None]
        return (2.0 * (self.places - self.low[:, None]) / width - 1.0).clamp(-1.0, 1.0)


@dataclass(frozen=True)
class Fit:
    """Chebyshev coefficients (2, n, n, n) of value and slope on a box."""

    coefficients: Tensor

    @classmethod
    def of(cls, rule: Rule, box: Box) -> Fit:
        """The polynomial through the rule's values at the nodes."""
        import torch

        sides = box.sides()
        transforms = []
        for n in sides:
            transforms.append(polynomials(roots(n), n).T * (2.0 / n))
            transforms[-1][0] *= 0.5
        values = rule(pairs_at(box.nodes(sides))).reshape(2, *sides)
        return cls(torch.einsum("fabc,ia,jb,kc->fijk", values, *transforms))

    def tails(self) -> Tensor:
        """The largest of the last two coefficients along each side, (3, 2); 0 along sides of rounding."""
        import torch

        sizes = self.coefficients.abs()
        last = [sizes.movedim(axis, -1)[..., 2:][..., -2:].flatten(1) for axis in (1, 2, 3)]
        return torch.stack([torch.nn.functional.pad(each, (0, 1)).amax(1) for each in last])

    def resolved(self) -> bool:
        return bool((self.tails() <= RESOLVED * self.coefficients.abs().amax((1, 2, 3))).all())

    def at(self, unit: Tensor) -> Tensor:
        """Values (2, pairs)."""
        import torch

        _, n1, n2, n3 = self.coefficients.shape
        parts = []
        for start in range(0, unit.shape[1], CHUNK):
            x = unit[:, start : start + CHUNK]
            first, second, third = (polynomials(x[i], n) for i, n in enumerate((n1, n2, n3)))
            rows = (first @ self.coefficients.reshape(2, n1, n2 * n3)).reshape(2, -1, n2, n3)
            parts.append(((rows * third[:, None]).sum(-1) * second).sum(-1))
        return torch.cat(parts, dim=1)


def roots(n: int) -> Tensor:
    """The Chebyshev nodes on [-1, 1]."""
    import torch

    return torch.cos(torch.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n)


def polynomials(x: Tensor, n: int) -> Tensor:
    """`T_0 .. T_(n-1)` at x (m,), (m, n)."""
    import torch

    return torch.cos(torch.arange(n, dtype=torch.float64) * torch.acos(x)[:, None])


def coordinates(pairs: Pairs) -> Tensor:
    """Mean and half the distance of the logarithms of the variances, and the angle, (3, pairs)."""
    import torch

    first, second = torch.log(pairs.larger), torch.log(pairs.smaller)
    return torch.stack([0.5 * (first + second), 0.5 * (first - second), pairs.angle])


def pairs_at(places: Tensor) -> Pairs:
    """The pairs of those coordinates."""
    import torch

    return Pairs(torch.exp(places[0] + places[1]), torch.exp(places[0] - places[1]), places[2])


def on_boxes(rule: Rule, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """The rule on each pair (2, pairs), interpolated where that pays, and what interpolation may add (2,)."""
    import torch

    places = coordinates(pairs)
    out = torch.empty(2, places.shape[1], dtype=torch.float64)
    added = torch.zeros(2, dtype=torch.float64)
    pending = [torch.arange(places.shape[1])]
    while pending:
        index = pending.pop()
        box = Box(places[:, index])
        if len(index) <= WORTH * prod(box.sides()):
            out[:, index] = rule(pairs.at(index))
            continue
        excess = box.widths / SIDES[-1][0]
        fit = Fit.of(rule, box) if bool((excess <= 1.0).all()) else None
        if fit is not None and fit.resolved():
            out[:, index] = fit.at(box.unit())
            added = torch.maximum(added, fit.tails().sum(0))
            continue
        along = int((excess if fit is None else fit.tails().sum(1)).argmax())
        upper = box.unit()[along] > 0.0
        pending += [index[upper], index[~upper]]
    return out, added
