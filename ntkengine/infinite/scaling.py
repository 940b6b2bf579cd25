"""How the kernel scales with the width N, and whether training leaves it constant. Torch-free.

Exponents as in Yang and Hu, "Feature learning in infinite-width neural networks" (2021), section 3,
with the time of training left free: a kernel that grows or vanishes with N is trained for the time
that its outputs need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ntkengine.layer import Site
from ntkengine.parameterizations import Role

NEVER = Fraction(10**6)  # an exponent of something that starts at zero
BOTTLENECK = 10  # a hidden layer narrower than the widest one by this factor is taken not to grow with it


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


def width_scaling(site: Site, nngp_power: Fraction, ntk_power: Fraction) -> WidthScaling:
    """The scaling of a network's kernels with those leading powers."""
    exponents = Exponents([leaf for leaf in site.leaves() if leaf.role])
    reasons = tuple(moves(site, exponents))
    return WidthScaling(ntk_power, nngp_power, not reasons, reasons, tuple(exponents.remarks(ntk_power)))


def moves(site: Site, exponents: Exponents) -> Iterator[str]:
    """The reasons, if any, for which training changes the kernel at every width."""
    leaves = list(site.leaves())
    weighted = [leaf for leaf in leaves if leaf.role]
    after = leaves[leaves.index(weighted[-1]) + 1 :]
    nonlinear = [leaf for leaf in after if not leaf.layer.is_linear]
    if nonlinear:
        yield (
            f"the kernel is not constant in training at any width: {nonlinear[0].path} "
            f"({nonlinear[0].layer.kind}) acts on the outputs"
        )
    widths = [leaf.out_shape[-1] for leaf in weighted[:-1]]
    known = [width for width in widths if width is not None]
    if known and BOTTLENECK * min(known) <= max(known):
        narrow = weighted[widths.index(min(known))]
        yield (
            f"the kernel is not constant in training if {narrow.path}, of width {min(known)}, stays narrow "
            "while the others grow (a bottleneck)"
        )
    if exponents.features() <= 0:
        yield (
            "the kernel is not constant in training at any width: in this parameterization features "
            "move by as much as the outputs do"
        )


class Exponents:
    """Powers of N in a chain of layers with weights, biases left out: the features' variances forward,
    the size of `df / d(feature)` backward, each layer's share of the NTK, and the time of training."""

    def __init__(self, weighted: list[Site]) -> None:
        *self.hidden, self.readout = weighted
        self.forward = [Fraction(0)]  # variance of what arrives at each layer, then of the outputs
        for leaf in weighted:
            a, b, fan_in = own(leaf)
            self.forward.append(self.forward[-1] + fan_in - 2 * a - 2 * b)
        a, b, _ = own(self.readout)
        self.backward = self._backward(NEVER if self.readout.starts_at_zero else a + b)
        self.shares = [self._share(index, leaf) for index, leaf in enumerate(weighted)]
        with_rates = [share - leaf.scaling.c for share, leaf in zip(self.shares, weighted, strict=True)]
        self.time = -max(with_rates)

    def _backward(self, top: Fraction) -> list[Fraction]:
        """`df / d(feature)` falls as N to minus this, at each hidden layer."""
        falls = [top]
        for leaf in reversed(self.hidden[1:]):
            a, b, fan_in = own(leaf)
            falls.append(falls[-1] + a + b - fan_in / 2)
        return falls[::-1]

    def _share(self, index: int, leaf: Site) -> Fraction:
        a, _, fan_in = own(leaf)
        received = fan_in + self.forward[index] - 2 * a
        return received if leaf is self.readout else received + 1 - 2 * self.backward[index]

    def features(self) -> Fraction:
        """r, where the features move as N^-r, relative to themselves, while the outputs move by O(1);
        the kernel regime is r > 0."""
        if not self.hidden:
            return Fraction(1)  # nothing but the inputs
        a, b, _ = own(self.readout)
        learned = 2 * a + self.readout.scaling.c - self.time - self.forward[-2] / 2
        # the read-out's weights are the larger of what they start with and what they learn
        backward = self._backward(learned if self.readout.starts_at_zero else min(a + b, learned))
        return min(self._movement(index, leaf, backward[index]) for index, leaf in enumerate(self.hidden))

    def _movement(self, index: int, leaf: Site, backward: Fraction) -> Fraction:
        a, _, fan_in = own(leaf)
        step = 2 * a + leaf.scaling.c - self.time - fan_in - self.forward[index] + backward
        return step + self.forward[index + 1] / 2

    def remarks(self, ntk_power: Fraction) -> Iterator[str]:
        """What to know of the leading term."""
        weights = max(self.shares)
        if ntk_power > weights:
            yield (
                f"the leading term comes from the biases alone: the weights' share of the NTK is of power "
                f"{weights} in the width, and is not part of this kernel"
            )


def own(leaf: Site) -> tuple[Fraction, Fraction, Fraction]:
    """The exponents a and b of N in a layer's weights, and that of its fan-in; an input layer's fan-in is
    the data's dimension, not N."""
    if leaf.role is Role.INPUT:
        return Fraction(0), Fraction(0), Fraction(0)
    return leaf.scaling.a, leaf.scaling.b, Fraction(1)
