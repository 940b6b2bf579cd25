"""Pooling and flattening: layers without weights that mix positions, or make features of them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field

from ntkengine.errors import SpecError, pointer_of
from ntkengine.layer import FixedMap, Part, Position, Site
from ntkengine.layers.windows import (
    PADDING,
    Axis,
    Padding,
    PerAxis,
    check_axes,
    known_sizes,
    lengths_after,
    moving,
    out_sizes,
    pooled_sum,
    windows_on,
)
from ntkengine.positions import Extent, Needs
from ntkengine.spec import spec
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor


@spec
class Pool(FixedMap):
    """A function of what a window reads, channel by channel."""

    # described here, for docstrings of fields are not inherited
    window_shape: PerAxis = Field(description="Size of the window on each of one to three spatial axes.")
    strides: PerAxis | None = Field(
        default=None,
        description="One number for each axis. null is 1 on each, as in jax; torch takes the window's size.",
    )
    padding: Padding = Field(default="VALID", description=PADDING)

    @final
    def place(self, at: Position) -> Site:
        check_axes(at, "window_shape", self.window_shape, {"strides": self.strides})
        sizes = out_sizes(at, "window_shape", self.windows(known_sizes(at.shape)))
        return at.site(self, (*sizes, at.shape[-1]), lengths_after(at, self.windows))

    def windows(self, sizes: tuple[int, ...]) -> tuple[Axis, ...]:
        """The windows on spatial axes of those sizes."""
        strides = self.strides or (1,) * len(sizes)
        return tuple(
            moving(size, taps, stride, 1, self.padding)
            for size, taps, stride in zip(sizes, self.window_shape, strides, strict=True)
        )

    def axes(self, site: Site) -> tuple[Axis, ...]:
        """The windows on the axes that arrive."""
        return self.windows(known_sizes(site.in_shape))

    @final
    def needs(self, site: Site, wanted: Needs) -> Needs:
        return all_positions(wanted)


@spec
class LinearPool(Pool):
    """Sums over a window, times a factor for each output."""

    is_linear: ClassVar[bool] = True

    @abstractmethod
    def factors(self, taps: int, read: Tensor) -> Tensor:
        """The factors, from the number of taps and how many of them read an entry."""

    @final
    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        axes = self.axes(site)
        y = x
        for dim, axis in enumerate(axes, start=1):
            y = windows_on(y, dim, axis).sum(dim + 1)
        return y * self._factors(axes, site.present(lengths), x)[..., None]

    @final
    def moments(self, site: Site, state: KernelState) -> KernelState:
        axes, present = self.axes(site), state.present(site.in_lengths)
        factors = self._factors(axes, present, state.nngp.pair).flatten(1)
        if present is not None:
            return state.mixed(lambda moment, leading: pooled_sum(moment, leading, axes)).times_rows(factors)
        pairs = factors[0, :, None] * factors[0]
        return state.mixed(lambda moment, leading: pooled_sum(moment, leading, axes).mul_(pairs))

    def _factors(self, axes: Sequence[Axis], present: Tensor | None, like: Tensor) -> Tensor:
        """The factor of each output position, (n, *outputs); of one row where all rows are alike."""
        there = like.new_ones((1, *(axis.size for axis in axes))) if present is None else present.to(like)
        for dim, axis in enumerate(axes, start=1):
            there = windows_on(there, dim, axis).sum(dim + 1)
        return self.factors(math.prod(axis.taps for axis in axes), there)


@spec
class SumPool(LinearPool):
    """Sum pooling: `y[p] = sum_t x[s p + t]` over a window, with strides s."""

    kind: Literal["sum_pool"] = "sum_pool"

    def factors(self, taps: int, read: Tensor) -> Tensor:
        return read.new_ones(read.shape)


@spec
class AvgPool(LinearPool):
    """Average pooling: `y[p] = 1/size sum_t x[s p + t]` over a window, with strides s."""

    kind: Literal["avg_pool"] = "avg_pool"
    normalize_edges: bool = False
    """Whether a window that reaches into the padding is divided by the number of inputs that it reads;
    otherwise the size is that of the whole window."""

    def factors(self, taps: int, read: Tensor) -> Tensor:
        return 1.0 / (read.clamp(min=1.0) if self.normalize_edges else read.new_full(read.shape, taps))


@spec
class MaxPool(Pool):
    """Max pooling: `y[p] = max_t x[s p + t]` over a window, with strides s. It has no infinite-width rule."""

    kind: Literal["max_pool"] = "max_pool"

    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        present = site.present(lengths)
        x = x if present is None else x.masked_fill(~present[..., None], -math.inf)
        for dim, axis in enumerate(self.axes(site), start=1):
            x = windows_on(x, dim, axis, fill=-math.inf).max(dim + 1).values
        return x

    def moments(self, site: Site, state: KernelState) -> KernelState:
        raise site.unsupported(
            "max_pool has no infinite-width rule",
            "use avg_pool in its place, or ask for a Monte-Carlo kernel (of kind monte_carlo)",
        )


class GlobalPool(FixedMap):
    """All positions become one."""

    is_linear: ClassVar[bool] = True

    @abstractmethod
    def over(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        """The positions on those dimensions as one."""

    @abstractmethod
    def correction(self, share: Tensor) -> Tensor:
        """The factor on that, where only this share of the positions is there and the others hold 0."""

    @final
    def place(self, at: Position) -> Site:
        if len(at.shape) == 1:
            raise SpecError(
                f"{at.path}: {self.kind} needs spatial axes, its input has shape (n, {at.shape[0]})",
                pointer=pointer_of(at.path),
                hint="give inputs of shape (n, *axes, channels), or leave this layer out",
            )
        return at.site(self, at.shape[-1:], None)

    @final
    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        y, present = self.over(x, tuple(range(1, x.ndim - 1))), site.present(lengths)
        return y if present is None else y * self._corrections(present, x)[:, None]

    @final
    def needs(self, site: Site, wanted: Needs) -> Needs:
        return all_positions(wanted)

    @final
    def moments(self, site: Site, state: KernelState) -> KernelState:
        pooled, present = (
            state.mixed(lambda moment, _: self.over(moment, (-2, -1))),
            state.present(site.in_lengths),
        )
        return pooled if present is None else pooled.times_rows(self._corrections(present, state.nngp.pair))

    def _corrections(self, present: Tensor, like: Tensor) -> Tensor:
        """The factor of each row, (n,)."""
        return self.correction(present.to(like).flatten(1).mean(1))


@spec
class GlobalAvgPool(GlobalPool):
    """Global average pooling: `y = 1/P sum_p x[p]` over all P positions, to (n, C)."""

    kind: Literal["global_avg_pool"] = "global_avg_pool"

    def over(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return x.mean(dims)

    def correction(self, share: Tensor) -> Tensor:
        return 1.0 / share


@spec
class GlobalSumPool(GlobalPool):
    """Global sum pooling: `y = sum_p x[p]` over all P positions, to (n, C)."""

    kind: Literal["global_sum_pool"] = "global_sum_pool"

    def over(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return x.sum(dims)

    def correction(self, share: Tensor) -> Tensor:
        return share.new_ones(share.shape)


@spec
class Flatten(FixedMap):
    """Positions become features, row by row: (n, *axes, C) to (n, P C). Inputs without axes stay as they are.

    Second moments become means over equal positions: a dense layer does not see the others.
    """

    kind: Literal["flatten"] = "flatten"

    is_linear: ClassVar[bool] = True

    def place(self, at: Position) -> Site:
        at.check_one_length("a shorter one has fewer features")
        channels, positions = at.shape[-1], math.prod(known_sizes(at.shape))
        features = None if channels is None else positions * channels
        return at.site(self, (features,), None)

    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        return x if x.ndim == 2 else x.flatten(1)

    def needs(self, site: Site, wanted: Needs) -> Needs:
        return Needs(Extent.DIAGONAL, min(wanted.within, Extent.DIAGONAL))

    def moments(self, site: Site, state: KernelState) -> KernelState:
        if not state.spatial:
            return state
        flat = state.mapped(equal_positions_mean)
        size = state.size.times(math.prod(known_sizes(site.in_shape)))
        # features that came from different positions have different laws: no one law is that of all
        return replace(flat, size=size, gaussian=False, cumulants=None)


def equal_positions_mean(moment: Tensor, leading: int) -> Tensor:
    """The mean over positions of each of two points at the same one."""
    same = moment.diagonal(dim1=-2, dim2=-1) if moment.ndim == leading + 2 else moment
    return same.mean(-1)


def all_positions(wanted: Needs) -> Needs:
    """What a map that mixes positions needs."""
    return Needs(Extent.FULL, Extent.FULL if wanted.within else Extent.NONE)
