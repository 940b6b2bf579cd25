"""Expectations as means over draws, the same for all pairs: positive semi-definite by construction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ntkengine.first_layer.nodes import NodeSets, Scrambled
from ntkengine.first_layer.preactivation import Preactivation
from ntkengine.first_layer.profile import Profile

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 2**22  # numbers at a time
FEWEST, MOST = 2**8, 2**16  # points of a randomisation
PROBES = 16  # rows


@dataclass(frozen=True)
class Precision:
    """How many Sobol points: a power of two in each of independent randomisations.

    Kernels of parts of a data set fit together, and are positive semi-definite as a whole, if they are made
    with the same precision.
    """

    points: int
    randomisations: int = 8
    seed: int = 0

    def nodes(self, preactivation: Preactivation, dimension: int) -> Scrambled:
        return Scrambled(preactivation, dimension, self.points, self.randomisations, self.seed)


class Sampled(NamedTuple):
    """Means (2, ...) of products of s and of s' over draws, on pairs and of each row with itself, and the
    standard errors of these means, zeros if there is one set of draws."""

    pair: Tensor
    own: Tensor
    pair_error: Tensor
    own_error: Tensor


class Spread:
    """Mean and standard error of tensors, one after the other (Welford, 1962)."""

    def __init__(self, like: Tensor) -> None:
        self.count = 0
        self.mean = like.new_zeros(())
        self.squares = like.new_zeros(())

    def add(self, value: Tensor) -> None:
        self.count += 1
        before = value - self.mean
        self.mean = self.mean + before / self.count
        self.squares = self.squares + before * (value - self.mean)

    def error(self) -> Tensor:
        """Of the mean."""
        return (self.squares / (max(self.count - 1, 1) * self.count)).sqrt()


def sampled(
    profile: Profile,
    nodes: NodeSets,
    preactivation: Preactivation,
    x1: Tensor,
    x2: Tensor | None = None,
    paired: bool = False,
) -> Sampled:
    """Means over the sets of draws, and their spread, for inputs (n1, d) and (n2, d), or x1 alone."""
    import torch

    pair, own = Spread(x1), Spread(x1)
    for index in range(nodes.count):
        products = Products(x1, paired)
        for draws in nodes.blocks(index, block_size(x1, x2)):
            weights = torch.from_numpy(draws).to(x1)
            first = features(profile, preactivation, x1, weights)
            products.add(first, None if x2 is None else features(profile, preactivation, x2, weights))
        pair.add(products.pair / nodes.points)
        own.add(products.own / nodes.points)
    return Sampled(pair.mean, own.mean, pair.error(), own.error())


def block_size(x1: Tensor, x2: Tensor | None) -> int:
    """The number of draws at a time, a power of two."""
    rows = len(x1) + (0 if x2 is None else len(x2))
    size: int = CHUNK // (4 * rows + x1.shape[1] + 1)
    return 1 << max(size.bit_length() - 1, 4)


def features(profile: Profile, preactivation: Preactivation, x: Tensor, draws: Tensor) -> Tensor:
    """s and s' at every input and draw, (2, n, m)."""
    import torch

    d = x.shape[1]
    z = preactivation.W_factor * (x @ draws[:, -d:].T)
    if preactivation.b_law is not None:
        z = z + preactivation.b_factor * draws[:, 0]
    return torch.stack([profile.function(z), profile.derivative(z)])


class Products:
    """Sums over draws of products on pairs, and of each row with itself."""

    def __init__(self, like: Tensor, paired: bool) -> None:
        self.paired = paired
        self.pair = like.new_zeros(())
        self.own = like.new_zeros(())

    def add(self, first: Tensor, second: Tensor | None) -> None:
        import torch

        other = first if second is None else second
        pair = (first * other).sum(-1) if self.paired else first @ other.mT
        rows = first if second is None else torch.cat([first, second], dim=1)
        self.pair = self.pair + pair
        self.own = self.own + rows.square().sum(-1)


def points_for(
    profile: Profile, preactivation: Preactivation, x: Tensor, rtol: float, precision: Precision | None = None
) -> tuple[Precision, bool]:
    """The number of points, 2^16 at most, from which standard errors are within `rtol` of the largest entry,
    for s and for s', and whether they are. Seen from the 16 longest rows of x (n, d)."""
    rows = x[x.square().sum(1).topk(min(PROBES, len(x))).indices]
    precision = replace(precision or Precision(FEWEST), points=FEWEST)
    while True:
        nodes = precision.nodes(preactivation, x.shape[1])
        found = sampled(profile, nodes, preactivation, rows)
        errors, sizes = found.pair_error.flatten(1).amax(1), found.pair.abs().flatten(1).amax(1)
        reached = bool((errors <= rtol * sizes).all())
        if reached or precision.points >= MOST:
            return precision, reached
        precision = replace(precision, points=4 * precision.points)
