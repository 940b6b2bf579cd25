"""Networks that act on each pair of inputs apart from all others: dense layers and activations in sequence.

Their rules run once, on each input with itself, and note what they do to pairs. A block then takes these
steps on strips of it that stay in the processor's cache, and computes no variance again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ntkengine.activations import Activation
from ntkengine.gram.plan import cuts
from ntkengine.infinite.fold import Fold
from ntkengine.joint import Near
from ntkengine.layer import Site
from ntkengine.layers.containers import InSequence
from ntkengine.layers.dense import Dense
from ntkengine.positions import mirrored
from ntkengine.state import KernelState
from ntkengine.steps import Activated, Affine, Pairs, Step

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 4096  # inputs whose rules run at a time
STRIP = 2**16  # pairs: arrays of a quarter of a megabyte in float32, several of which fit a core's cache

Kernels = tuple["Tensor", "Tensor"]  # NNGP and NTK, leading terms


@dataclass(frozen=True)
class Chain:
    """The steps of a network, for x1 (n1, d) and x2 (n2, d); steps count rows of x2 on from those of x1."""

    fold: Fold
    x1: Tensor
    x2: Tensor | None
    nearness: float
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, fold: Fold, x1: Tensor, x2: Tensor | None, nearness: float) -> Chain | None:
        """None where the network is of another kind."""
        count = length(fold.site)
        if x1.ndim != 2 or not count or len(noted(fold, x1[:1])) != count:
            return None
        inputs = (x1,) if x2 is None else (x1, x2)
        parts = [noted(fold, x[rows]) for x in inputs for rows in cuts(0, len(x), ROWS)]
        return cls(fold, x1, x2, nearness, tuple(map(joined, zip(*parts, strict=True))))

    def block(self, rows: slice, columns: slice) -> Kernels:
        """The kernels of some rows of x1 and some of x2."""
        same = self.x2 is None and rows == columns
        nngp, ntk = (self.x1.new_empty(size(rows), size(columns)) for _ in range(2))
        apart: list[Near] = []
        for strip in cuts(rows.start, rows.stop, max(1, STRIP // size(columns))):
            across = slice(strip.start, columns.stop) if same else columns  # the rest is mirrored
            pairs, near = self._strip(strip, across, coincident=same)
            at = strip.start - rows.start, across.start - columns.start
            nngp[at[0] : at[0] + size(strip), at[1] :] = pairs.nngp
            ntk[at[0] : at[0] + size(strip), at[1] :] = pairs.ntk
            apart += [] if near is None else [near.moved(*at)]
        for near in apart:
            self._put_apart(near, rows, columns, (nngp, ntk))
        return (mirrored(nngp), mirrored(ntk)) if same else (nngp, ntk)

    def _strip(self, rows: slice, columns: slice, *, coincident: bool) -> tuple[Pairs, Near | None]:
        """The kernels of a strip, and its pairs that are to be computed apart."""
        x2 = self.x1 if self.x2 is None else self.x2
        nngp = (self.x1[rows] @ x2[columns].T).div_(self.x1.shape[1])
        behind = 0 if self.x2 is None else len(self.x1)
        across = slice(columns.start + behind, columns.stop + behind)
        pairs = Pairs(nngp, nngp.new_zeros(nngp.shape), rows, across, coincident)
        near, sought = None, self.nearness > 0.0
        for step in self.steps:
            if sought and isinstance(step, Activated):
                near, sought = step.near(pairs, self.nearness), False
            pairs = step.on(pairs)
        return pairs, near

    def _put_apart(self, near: Near, rows: slice, columns: slice, kernels: Kernels) -> None:
        """Replace the kernels of near pairs of a block."""
        x2 = self.x1 if self.x2 is None else self.x2
        state = self.fold.apart(self.x1[rows], x2[columns], near)
        for kernel, exact in zip(kernels, (state.nngp.pair, state.ntk.pair), strict=True):
            kernel[near.rows, near.columns] = exact.to(kernel.dtype)


def length(site: Site) -> int:
    """How many steps a network takes, if it may be a chain; else 0."""
    if isinstance(site.layer, InSequence):
        lengths = [length(part) for part in site.parts]
        return sum(lengths) if all(lengths) else 0
    layer = site.layer
    adaptive = isinstance(layer, Activation) and layer.method == "numeric"  # to all pairs that it sees
    return int(
        isinstance(layer, Dense) or (isinstance(layer, Activation) and not (layer.is_linear or adaptive))
    )


def noted(fold: Fold, x: Tensor) -> tuple[Step, ...]:
    """The steps that the rules note on some inputs (n, d), each with itself."""
    import torch

    with torch.no_grad():
        state = KernelState.of_inputs(x, symbolic=fold.symbolic)
        return fold.run(replace(state, notes=())).notes or ()


def joined(parts: tuple[Step, ...]) -> Step:
    """The same step on several sets of inputs."""
    import torch

    first, *_ = parts
    if isinstance(first, Affine):
        return first
    numbers = (torch.cat(each) for each in zip(*(part[1:] for part in parts), strict=True))
    return Activated(first.dual, *numbers)


def size(part: slice) -> int:
    """How many."""
    return int(part.stop - part.start)
