"""Networks that act on each pair of inputs apart from all others: layers in sequence, without branches.

Their rules run once, on each input with itself, and note what they do to pairs. A block then takes these
steps on strips of it that stay in the processor's cache, and computes no variance again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ntkengine.activations import Activation
from ntkengine.gram.plan import cuts
from ntkengine.infinite.fold import Fold, Probe, probed
from ntkengine.joint import Near
from ntkengine.positions import between, mirrored, one_axis
from ntkengine.state import KernelState
from ntkengine.steps import Activated, Affine, Mapped, Pairs, Step

if TYPE_CHECKING:
    from torch import Tensor

ENTRIES = 2**20  # moments of inputs, at all of their positions, that rules act on at a time
STRIP = 2**17  # moments: arrays of half a megabyte in float32, several of which fit the cores' caches

Name = Literal["nngp", "ntk"]


@dataclass(frozen=True)
class Chain:
    """The steps of a network, for x1 (n1, d) and x2 (n2, d); steps count rows of x2 on from those of x1."""

    fold: Fold
    x1: Tensor
    x2: Tensor | None
    probe: Probe
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, fold: Fold, x1: Tensor, x2: Tensor | None, room: float) -> Chain | None:
        """None where the network is of another kind, or its steps take more bytes than `room`."""
        if adaptive(fold):
            return None
        inputs, rows = (x1,) if x2 is None else (x1, x2), max(1, ENTRIES // fold.entries)
        whole: KernelState | None = None
        parts, taken = [], 0
        for x in inputs:
            for some in cuts(0, len(x), rows):
                end = noted(fold, x[some])
                taken += sum(map(bytes_of, end.notes or ()))
                if end.notes is None or taken > room:
                    return None
                parts.append(end.notes)
                whole = replace(end, notes=None) if whole is None else with_errors(whole, end)
        if whole is None:
            return None
        steps = tuple(map(joined, zip(*parts, strict=True)))
        return cls(fold, x1, x2, Probe.of(whole, apart=whole.det is not None), steps)

    def block(self, rows: slice, columns: slice, get: tuple[Name, ...]) -> dict[Name, Tensor]:
        """The kernels of some rows of x1 and some of x2, leading terms."""
        same = self.x2 is None and rows == columns
        kernels: dict[Name, Tensor] = {}
        apart: list[Near] = []
        for strip, across in self._strips(rows, columns, same=same):
            pairs, near = self._strip(strip, across, coincident=same and strip.start == across.start)
            down, right = strip.start - rows.start, across.start - columns.start
            if not kernels:
                shape = (size(rows), size(columns), *pairs.nngp.shape[2:])
                kernels = {name: self.x1.new_empty(shape) for name in get}
            for name, kernel in kernels.items():
                values: Tensor = getattr(pairs, name)
                kernel[down : down + size(strip), right : right + size(across)] = values
            apart += [] if near is None else [near.moved(down, right)]
        for near in apart:
            self._put_apart(near, rows, columns, kernels)
        return {name: mirrored(kernel) if same else kernel for name, kernel in kernels.items()}

    def _strips(self, rows: slice, columns: slice, *, same: bool) -> Iterator[tuple[slice, slice]]:
        """The strips of a block, those on and above the diagonal if that is all that counts. They are as wide
        as they can be, for long rows of numbers take less time."""
        pairs = max(1, STRIP // self.fold.entries)
        width = min(size(columns), pairs)
        for strip in cuts(rows.start, rows.stop, max(1, pairs // width)):
            for across in cuts(strip.start if same else columns.start, columns.stop, width):
                yield strip, across

    def _strip(self, rows: slice, columns: slice, *, coincident: bool) -> tuple[Pairs, Near | None]:
        """The kernels of a strip, and its pairs that are to be computed apart."""
        import torch

        x1, x2 = (one_axis(x) for x in (self.x1, self.x1 if self.x2 is None else self.x2))
        nngp = between(x1[rows], x2[columns], self.fold.needs().between).div_(x1.shape[-1])
        behind = 0 if self.x2 is None else len(x1)
        across = slice(columns.start + behind, columns.stop + behind)
        pairs = Pairs(nngp, torch.zeros_like(nngp), rows, across, coincident)
        near, sought = None, self.probe.nearness > 0.0
        for step in self.steps:
            if sought and isinstance(step, Activated):
                near, sought = step.near(pairs, self.probe.nearness), False
            pairs = step.on(pairs)
        return pairs, near

    def _put_apart(self, near: Near, rows: slice, columns: slice, kernels: Mapping[Name, Tensor]) -> None:
        """Replace the kernels of near pairs of a block."""
        x2 = self.x1 if self.x2 is None else self.x2
        state = self.fold.apart(self.x1[rows], x2[columns], near)
        exact = {"nngp": state.nngp.pair, "ntk": state.ntk.pair}
        for name, kernel in kernels.items():
            kernel[near.rows, near.columns] = exact[name].to(kernel.dtype)


def adaptive(fold: Fold) -> bool:
    """Whether an expectation is taken with a precision that depends on all pairs."""
    layers = (leaf.layer for leaf in fold.site.leaves())
    return any(isinstance(layer, Activation) and layer.method == "numeric" for layer in layers)


def noted(fold: Fold, x: Tensor) -> KernelState:
    """What the rules make of some inputs, each with itself, probed; no notes where one of them is silent."""
    import torch

    with torch.no_grad():
        if x.ndim == 2:
            state = KernelState.of_inputs(x, symbolic=fold.symbolic)
        else:
            needs = fold.needs()
            state = KernelState.from_inputs(
                x, x, symmetric=False, symbolic=fold.symbolic, needs=needs, paired=True
            )
        return fold.run(replace(probed(state), notes=()))


def with_errors(state: KernelState, other: KernelState) -> KernelState:
    """The state, with the larger errors of both."""
    nngp = np.maximum(state.nngp_error, other.nngp_error)
    return replace(state, nngp_error=nngp, ntk_error=np.maximum(state.ntk_error, other.ntk_error))


def bytes_of(step: Step) -> int:
    """What its numbers take."""
    return sum(each.nbytes for each in step[1:]) if isinstance(step, Activated) else 0


def joined(parts: tuple[Step, ...]) -> Step:
    """The same step on several sets of inputs."""
    import torch

    first, *_ = parts
    if isinstance(first, Affine | Mapped):
        return first
    numbers = (torch.cat(each) for each in zip(*(part[1:] for part in parts), strict=True))
    return Activated(first.dual, *map(positions_first, numbers))


def positions_first(values: Tensor) -> Tensor:
    """Of inputs (n, P), in memory as (P, n), which is the order of `between`."""
    return values.T.contiguous().T if values.ndim == 2 else values


def size(part: slice) -> int:
    """How many."""
    return int(part.stop - part.start)
