"""The rules of a network, one after the other, over the state of some inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ntkengine.joint import Near
from ntkengine.layer import Site
from ntkengine.layers.windows import known_sizes
from ntkengine.positions import Extent, Needs
from ntkengine.rounding import epsilon
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor

PROBES = 16  # rows on which the error of coincident pairs is measured
PROBED_ENTRIES = 2**16  # at most, of all pairs of their positions
NEARNESS = {4: 1e-3, 8: 1e-4}  # 1 - |cosine| of pairs that are computed apart, by the bytes of a number
PLAIN_ROUNDING = 1e3  # in units of the dtype's rounding error; more than that comes from a kink


@dataclass(frozen=True)
class Probe:
    """What a fold that was probed tells of the fold over all pairs."""

    end: KernelState
    nearness: float  # how near a pair must be to be computed apart; 0 where none need be
    error: float  # what rounding leaves in pairs that are not, relative to the largest entry

    @classmethod
    def of(cls, end: KernelState, *, apart: bool) -> Probe:
        """Near pairs are computed apart where that can be, and a kink makes more of rounding than it is."""
        plain, *further = np.broadcast_to(np.maximum(end.nngp_error, end.ntk_error), len(end.probed))
        if apart and plain >= PLAIN_ROUNDING * epsilon(end.nngp.pair):
            return cls(end, end.probed[-1], float(further[-1]))
        return cls(end, 0.0, float(plain))


@dataclass(frozen=True)
class Fold:
    """The rules of a placed network."""

    site: Site
    symbolic: bool  # hidden widths are the symbol N

    def needs(self, *, paired: bool = False) -> Needs:
        """What is needed of the inputs; of paired rows, variances to the end, and with them determinants."""
        return self.site.layer.needs(self.site, Needs(Extent.FULL, Extent(int(paired))))

    @cached_property
    def entries(self) -> int:
        """How many moments of a pair of inputs rules act on, at the layer with most positions."""
        positions = max(math.prod(known_sizes(leaf.in_shape)) for leaf in self.site.leaves())
        return positions**2 if self.needs().between == Extent.FULL else positions

    def start(self, x1: Tensor, x2: Tensor, *, symmetric: bool = False, paired: bool = False) -> KernelState:
        """The state of the inputs."""
        return KernelState.from_inputs(
            x1,
            x2,
            symmetric=symmetric,
            symbolic=self.symbolic,
            needs=self.needs(paired=paired),
            paired=paired,
        )

    def run(self, state: KernelState) -> KernelState:
        """The state of the outputs."""
        return self.site.layer.rule(self.site, state)

    def probe(self, x1: Tensor) -> Probe:
        """Measure on a few rows, each with itself, what rounding leaves in coincident pairs and, where a kink
        makes that much, in pairs that are not near enough to be computed apart."""
        most = max(1, PROBED_ENTRIES // math.prod(x1.shape[1:-1]) ** 2)
        rows = x1[:: -(-len(x1) // PROBES)][:most]
        end = self.run(probed(self.start(rows, rows, paired=True)))
        return Probe.of(end, apart=end.det is not None)

    def at_once(self, x1: Tensor, x2: Tensor | None) -> tuple[KernelState, Probe]:
        """The state of the outputs on all pairs of rows, of which there is no other block, and in the same
        pass what a probe of all rows tells."""
        other = x1 if x2 is None else x2
        start = probed(self.start(x1, other, symmetric=x2 is None))
        state = self.run(replace(start, nearness=start.probed[-1]))
        probe = Probe.of(state, apart=len(start.probed) > 1)
        if probe.nearness and not keeps_determinants(self):
            probe = Probe.of(state, apart=False)
        if probe.nearness and state.near is not None:
            state = state.with_near(self.apart(x1, other, state.near))
        return (state.mirrored() if x2 is None else state), probe

    def block(self, x1: Tensor, x2: Tensor | None, probe: Probe) -> KernelState:
        """The state of the outputs on all pairs of rows; near ones are computed apart, in float64.

        Quadrature has the precision of the probe: all blocks of a kernel need the same nodes.
        """
        other = x1 if x2 is None else x2
        start = self.start(x1, other, symmetric=x2 is None)
        state = self.run(replace(start, nearness=probe.nearness, precision=probe.end.precision))
        if state.near is not None:
            state = state.with_near(self.apart(x1, other, state.near))
        return state.mirrored() if x2 is None else state

    def apart(self, x1: Tensor, x2: Tensor, near: Near) -> KernelState:
        """The state of the outputs on those pairs of rows, in float64, with their determinants."""
        return self.run(self.start(x1[near.rows].double(), x2[near.columns].double(), paired=True))


@lru_cache(maxsize=256)
def keeps_determinants(fold: Fold) -> bool:
    """Whether near pairs can be computed apart: no layer loses the determinant of inputs (n, d)."""
    import torch

    row = torch.linspace(0.5, 1.5, fold.site.known_size(fold.site.in_shape), dtype=torch.float64)[None]
    return fold.run(probed(fold.start(row, row, paired=True))).det is not None


def probed(start: KernelState) -> KernelState:
    """The state, probed at coincident pairs and, where inputs have no positions, at the last that are not
    computed apart."""
    nearness = (0.0,) if start.spatial else (0.0, NEARNESS[start.nngp.pair.element_size()])
    return replace(start, probed=nearness)
