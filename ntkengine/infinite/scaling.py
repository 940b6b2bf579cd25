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

from ntkengine.activations import Linear
from ntkengine.laws import Zero
from ntkengine.layer import Site
from ntkengine.parameterizations import Role

BOTTLENECK = 10  # a hidden layer narrower than the widest one by this factor is taken not to grow with it


@dataclass(frozen=True)
class WidthScaling:
    """The kernels returned are the coefficients of N^width_power and N^nngp_width_power."""

    width_power: Fraction
    nngp_width_power: Fraction
    constant_in_training: bool
    reasons: tuple[str, ...]  # why it is not constant

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
    reasons = tuple(moves(site))
    return WidthScaling(ntk_power, nngp_power, not reasons, reasons)


def moves(site: Site) -> Iterator[str]:
    """The reasons, if any, for which training changes the kernel at every width."""
    leaves = list(site.leaves())
    weighted = [leaf for leaf in leaves if leaf.role]
    after = leaves[leaves.index(weighted[-1]) + 1 :]
    nonlinear = [leaf for leaf in after if not isinstance(leaf.layer, Linear)]
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
    if feature_exponent(weighted) <= 0:
        yield (
            "the kernel is not constant in training at any width: in this parameterization features "
            "move by as much as the outputs do"
        )


def feature_exponent(weighted: list[Site]) -> Fraction:
    """r, where the features move as N^-r while the outputs move by O(1); the kernel regime is r > 0."""
    *hidden, readout = weighted
    if not hidden:
        return Fraction(1)  # no features
    r = readout.scaling
    starts_at_zero = isinstance(getattr(readout.layer, "W_law", None), Zero)
    # df/d(feature) is the read-out weight: the larger of what it starts with and what it learns
    time = -max(shrunk_kernel_power(leaf, readout) for leaf in weighted)
    learned = 2 * r.a + r.c - time
    backward = learned if starts_at_zero else min(r.a + r.b, learned)
    return min(
        2 * own_a(leaf) + leaf.scaling.c - time - (leaf.role is not Role.INPUT) + backward for leaf in hidden
    )


def shrunk_kernel_power(leaf: Site, readout: Site) -> Fraction:
    """The power of N in a layer's share of the NTK, its learning rate included."""
    s, r = leaf.scaling, readout.scaling
    if leaf is readout:
        return 1 - 2 * s.a - s.c
    fan_in = 0 if leaf.role is Role.INPUT else 1
    return fan_in - 2 * own_a(leaf) - s.c + 1 - 2 * (r.a + r.b)


def own_a(leaf: Site) -> Fraction:
    """The exponent of N in a layer's multiplier: an input layer's fan-in is the data's, not N."""
    return Fraction(0) if leaf.role is Role.INPUT else leaf.scaling.a
