"""How the kernel scales with the width N, and whether training leaves it constant. Torch-free.

Exponents as in Yang and Hu, "Feature learning in infinite-width neural networks" (2021), section 3,
with the time of training left free: a kernel that grows or vanishes with N is trained for the time
that its outputs need. The network is a tree: parts in sequence, or branches that a merge makes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from ntkengine.layer import Site
from ntkengine.parameterizations import Role

ZERO, ONE = Fraction(0), Fraction(1)
NEVER = Fraction(10**6)  # an exponent of something that starts at zero
BOTTLENECK = 10  # features narrower than the widest by this factor are taken not to grow with them

T = TypeVar("T")


@dataclass(frozen=True)
class WidthScaling:
    """The kernels returned are the coefficients of N^width_power and N^nngp_width_power."""

    width_power: Fraction
    nngp_width_power: Fraction
    constant_in_training: bool
    reasons: tuple[str, ...]  # why it is not constant
    remarks: tuple[str, ...]  # what else to know of the leading term

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; powers are integers where they are whole."""
        return {
            "width_power": plain(self.width_power),
            "nngp_width_power": plain(self.nngp_width_power),
            "constant_in_training": self.constant_in_training,
        }


def plain(power: Fraction) -> int | float:
    """The power as JSON has it."""
    return power.numerator if power.denominator == 1 else float(power)


@lru_cache(maxsize=256)  # of blocks of one kernel, and of kernels of one network
def width_scaling(site: Site, nngp_power: Fraction, ntk_power: Fraction) -> WidthScaling:
    """The scaling of a network's kernels with those leading powers."""
    training = Training(site)
    reasons = (*on_outputs(site), *bottlenecks(site), *training.moves())
    return WidthScaling(ntk_power, nngp_power, not reasons, reasons, tuple(training.remarks(ntk_power)))


class Join(NamedTuple):
    """What a merge does to powers of N."""

    multiplies: bool = False
    side_by_side: bool = False  # widths of the branches add up

    def variance(self, branches: Sequence[Fraction]) -> Fraction:
        """That of the merged features, from those of the branches."""
        return sum(branches, ZERO) if self.multiplies else max(branches)

    def falls(self, falls: Fraction, branches: Sequence[Fraction]) -> list[Fraction]:
        """`df / d(branch)` from that of the merged features: for a product it is times the other branches."""
        if not self.multiplies:
            return [falls] * len(branches)
        return [falls - (self.variance(branches) - own) / 2 for own in branches]


JOINS: Mapping[str, Join] = {
    "sum": Join(),
    "concat": Join(side_by_side=True),
    "product": Join(multiplies=True),
}


def join_of(site: Site) -> Join | None:
    """How the parts of a site become one; None where they stand one after the other."""
    return JOINS.get(getattr(site.layer, "merge", ""))


def fold(site: Site, value: T, leaf: Callable[[Site, T], T], merged: Callable[[Site, Join, list[T]], T]) -> T:
    """What `leaf` makes of a value on its way from the inputs to the outputs of a tree."""
    if not site.parts:
        return leaf(site, value)
    if join := join_of(site):
        return merged(site, join, [fold(part, value, leaf, merged) for part in site.parts])
    for part in site.parts:
        value = fold(part, value, leaf, merged)
    return value


class Exposed(NamedTuple):
    """Features since the last weights: whether there were any, and what was nonlinear after them."""

    trained: bool = False
    nonlinear: tuple[Site, ...] = ()


def on_outputs(site: Site) -> Iterator[str]:
    """The reason that lies in what acts on the outputs: they are not affine in the read-out's weights."""

    def leaf(site: Site, before: Exposed) -> Exposed:
        if site.role:
            return Exposed(trained=True)
        if site.layer.is_linear or not before.trained:
            return before
        return before._replace(nonlinear=(*before.nonlinear, site))

    def merged(site: Site, join: Join, ends: list[Exposed]) -> Exposed:
        trained = sum(end.trained for end in ends)
        inside = tuple(each for end in ends for each in end.nonlinear)
        bilinear = join.multiplies and trained > 1
        return Exposed(trained > 0, (*inside, site) if bilinear else inside)

    for first in fold(site, Exposed(), leaf, merged).nonlinear[:1]:
        yield (
            f"the kernel is not constant in training at any width: {first.path} "
            f"({first.layer.kind}) acts on the outputs"
        )


class Features(NamedTuple):
    """How many features there are, 0 for the inputs and None where it was left out; where they come from."""

    width: int | None
    source: str


def bottlenecks(site: Site) -> Iterator[str]:
    """The reason that lies in narrow features (Liu, Zhu and Belkin, 2020, section 4).

    Weights see the width that arrives at them: a narrow branch of a concatenation is one with its
    siblings, but one inside a sum is narrow whatever skips it, for its own share of the kernel moves.
    """
    arriving: list[Features] = []

    def leaf(site: Site, before: Features) -> Features:
        if not site.role:
            return before
        if site.role is not Role.INPUT:
            arriving.append(before)
        return Features(site.out_shape[-1], site.path)

    def merged(site: Site, join: Join, ends: list[Features]) -> Features:
        if not join.side_by_side:
            return max(ends, key=lambda end: end.width or 0)
        widths = [end.width for end in ends]
        known = [width for width in widths if width is not None]
        return Features(sum(known) if len(known) == len(widths) else None, site.path)

    fold(site, Features(0, ""), leaf, merged)
    known = [(each.width, each.source) for each in arriving if each.width]
    if known and BOTTLENECK * min(known)[0] <= max(known)[0]:
        width, source = min(known, key=lambda each: each[0])
        yield (
            f"the kernel is not constant in training if {source}, of width {width}, stays narrow "
            "while the others grow (a bottleneck)"
        )


Size = Callable[[Site, Fraction], Fraction]  # the exponent of a weight, from the variance that arrives at it


class Powers:
    """Exponents of N all over a tree, biases left out: features have variances `N^arriving` before a site and
    `N^leaving` after it, and `df / d(feature)` after it is of the size `N^-falls`; all by path."""

    def __init__(self, root: Site, size: Size) -> None:
        self.arriving: dict[str, Fraction] = {}
        self.leaving: dict[str, Fraction] = {}
        self.falls: dict[str, Fraction] = {}
        self._size = size
        fold(root, ZERO, self._after, self._joined)
        self._back(root, ZERO)

    def _after(self, leaf: Site, variance: Fraction) -> Fraction:
        """A map without weights keeps the power: where it is not linear, its rule asks for O(1) inputs."""
        self.arriving[leaf.path] = self.leaving[leaf.path] = variance
        if leaf.role:
            self.leaving[leaf.path] += fan_in(leaf) - 2 * self._size(leaf, variance)
        return self.leaving[leaf.path]

    def _joined(self, site: Site, join: Join, variances: list[Fraction]) -> Fraction:
        for part, variance in zip(site.parts, variances, strict=True):
            self.leaving[part.path] = variance
        return join.variance(variances)

    def _back(self, site: Site, falls: Fraction) -> Fraction:
        """From the derivative after a site to that before it: the largest of those by its branches."""
        if not site.parts:
            self.falls[site.path] = falls
            arriving = self.arriving[site.path]
            return falls + self._size(site, arriving) - fan_out(site) / 2 if site.role else falls
        join = join_of(site)
        if join is None:
            for part in reversed(site.parts):
                falls = self._back(part, falls)
            return falls
        branches = join.falls(falls, [self.leaving[part.path] for part in site.parts])
        return min(self._back(part, each) for part, each in zip(site.parts, branches, strict=True))


class Training:
    """What training does to a network: its time, as a power of N, and how far features move in it."""

    def __init__(self, root: Site) -> None:
        self._weighted = [leaf for leaf in root.leaves() if leaf.role]
        start = Powers(root, at_start)
        shares = [self._share(start, leaf) for leaf in self._weighted]
        self.ntk_power = max(shares)  # of the weights' share
        self._time = -max(share - rate(leaf) for share, leaf in zip(shares, self._weighted, strict=True))
        self._powers = Powers(root, self._size)

    @staticmethod
    def _share(powers: Powers, leaf: Site) -> Fraction:
        received = powers.arriving[leaf.path] + fan_in(leaf) - 2 * multiplier(leaf)
        return received + fan_out(leaf) - 2 * powers.falls[leaf.path]

    def _size(self, leaf: Site, variance: Fraction) -> Fraction:
        """In training: read-out weights are the larger of what they start with and what they learn; the
        others, even those that start at zero, are of the size that their law would give them."""
        if fan_out(leaf):
            return drawn(leaf)
        learned = 2 * multiplier(leaf) + rate(leaf) - self._time - variance / 2
        return min(at_start(leaf), learned)

    def features(self) -> Fraction:
        """r, where the features move as N^-r, relative to themselves, while the outputs move by O(1);
        the kernel regime is r > 0."""
        return min((self._movement(leaf) for leaf in self._weighted if fan_out(leaf)), default=ONE)

    def _movement(self, leaf: Site) -> Fraction:
        powers = self._powers
        step = 2 * multiplier(leaf) + rate(leaf) - self._time - fan_in(leaf)
        before, after = powers.arriving[leaf.path], powers.leaving[leaf.path]
        return step - before + powers.falls[leaf.path] + after / 2

    def moves(self) -> Iterator[str]:
        """The reason that lies in the parameterization."""
        if self.features() <= 0:
            yield (
                "the kernel is not constant in training at any width: in this parameterization features "
                "move by as much as the outputs do"
            )

    def remarks(self, ntk_power: Fraction) -> Iterator[str]:
        """What to know of the leading term."""
        if ntk_power > self.ntk_power:
            known = self.ntk_power > -NEVER
            share = f"of power {self.ntk_power} in the width" if known else "zero at the start"
            yield (
                f"the leading term comes from the biases alone: the weights' share of the NTK is {share}, "
                "and is not part of this kernel"
            )


def fan_in(leaf: Site) -> Fraction:
    """The power of N in a layer's fan-in; that of an input layer is the data's dimension."""
    return ZERO if leaf.role is Role.INPUT else ONE


def fan_out(leaf: Site) -> Fraction:
    """The power of N in the number of a layer's outputs."""
    return ZERO if leaf.only or leaf.role is Role.READOUT else ONE


def multiplier(leaf: Site) -> Fraction:
    """The exponent of N in a layer's multiplier."""
    return leaf.scaling.a * fan_in(leaf)


def rate(leaf: Site) -> Fraction:
    """The learning rate is of the size N^-rate."""
    return ZERO if leaf.only else leaf.scaling.c


def drawn(leaf: Site) -> Fraction:
    """A weight, with its multiplier, is of the size N^-drawn by its law."""
    return (leaf.scaling.a + leaf.scaling.b) * fan_in(leaf)


def at_start(leaf: Site, _: Fraction = ZERO) -> Fraction:
    """The same of a weight as it starts, whatever arrives."""
    return NEVER if leaf.starts_at_zero else drawn(leaf)
