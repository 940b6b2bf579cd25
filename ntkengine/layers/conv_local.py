"""The locally connected layer: a convolution with weights of its own at every position."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.features import Cumulants
from ntkengine.joint import CumulantRule
from ntkengine.layer import Position, Site
from ntkengine.layers.conv import Convolution, from_channel_rows
from ntkengine.layers.windows import PADDING, Axis, Padding, PerAxis, known_sizes, moving
from ntkengine.spec import spec
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor


@spec
class ConvLocal(Convolution):
    """Locally connected layer: `y[p] = W_std n^-a sum_{t, k} W[p, t, k] x[s p + t, k] + b_std b[p]` over the
    taps t of a filter and the channels k, with strides s; n = taps C.

    W has shape (*out_axes, *filter_shape, C, width), b has shape (*out_axes, width). Weights of different
    positions are independent, so that features of different positions are uncorrelated.
    """

    kind: Literal["conv_local"] = "conv_local"
    padding: Annotated[Padding, Field(description=PADDING)] = "VALID"

    shared: ClassVar[bool] = False

    def windows(self, sizes: tuple[int, ...]) -> tuple[Axis, ...]:
        strides = self.strides or (1,) * len(sizes)
        return tuple(
            moving(size, taps, stride, 1, self.padding)
            for size, taps, stride in zip(sizes, self.filter_shape, strides, strict=True)
        )

    def steps(self) -> dict[str, PerAxis | None]:
        return {"strides": self.strides}

    def place(self, at: Position) -> Site:
        return self.placed_on_axes(at)

    def fan_in(self, site: Site) -> int:
        return self.taps * site.known_size(site.in_shape)

    def weight_shape(self, site: Site) -> tuple[int, ...]:
        channels = site.known_size(site.in_shape), site.known_size(site.out_shape)
        return (*known_sizes(site.out_shape), *self.filter_shape, *channels)

    def bias_shape(self, site: Site) -> tuple[int, ...]:
        return (*known_sizes(site.out_shape), site.known_size(site.out_shape))

    def arranged(self, site: Site, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The numbers of a row are outputs, then positions: a unit more adds columns at the end."""
        positions = known_sizes(site.out_shape)
        columns = (site.known_size(site.out_shape), *positions)
        drawn = from_channel_rows(rows, self.filter_shape, columns)
        first = drawn.ndim - len(positions)
        return np.moveaxis(drawn, range(first, drawn.ndim), range(len(positions)))

    def summed(self, site: Site, W: Tensor, x: Tensor) -> Tensor:
        sizes = known_sizes(site.out_shape)
        weights = W.reshape(math.prod(sizes), self.fan_in(site), -1)
        y = (self.read(site, x).transpose(0, 1) @ weights).transpose(0, 1)
        return y.reshape(len(x), *sizes, -1)

    def rule(self, site: Site, state: KernelState) -> KernelState:
        moved = self.moved(site, state, groups=1)
        positions = math.prod(known_sizes(site.out_shape))

        def uncorrelated(moment: Tensor, leading: int) -> Tensor:
            return moment if moment.ndim == leading + 1 else moment * identity(positions, moment)

        return replace(moved.mapped(uncorrelated), cumulants=self._separate(moved, positions))

    def _separate(self, moved: KernelState, positions: int) -> Cumulants | None:
        """The cumulants, of which those of two different positions vanish."""
        if moved.cumulants is None:
            return None
        extents = moved.extents

        def separate(rule: CumulantRule, full: bool) -> CumulantRule:
            def cumulant(i: int, j: int) -> Tensor | float:
                alone = not full or i == 0 or j == 0
                return rule(i, j) if alone else rule(i, j) * identity(positions, moved.nngp.pair)

            return cumulant

        pair, own = moved.cumulants
        return Cumulants(separate(pair, extents.between == 2), separate(own, extents.within == 2))


def identity(positions: int, like: Tensor) -> Tensor:
    """The identity matrix over positions."""
    import torch

    return torch.eye(positions, dtype=like.dtype, device=like.device)
