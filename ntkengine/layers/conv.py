"""Convolutions: what all of them share, and the one whose filter is the same everywhere."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.blocks import Sums
from ntkengine.errors import SpecError, pointer_of
from ntkengine.layer import Position, Shape, Site
from ntkengine.layers.weighted import Weighted
from ntkengine.layers.windows import (
    PADDING,
    Axis,
    Padding,
    PerAxis,
    check_axes,
    known_sizes,
    laid_out,
    lengths_after,
    moving,
    out_sizes,
    patches,
    shifted_mean,
)
from ntkengine.positions import Needs
from ntkengine.spec import spec
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor


@spec
class Convolution(Weighted):
    """Weights on what a window reads of the inputs (n, *axes, C), channel last, to (n, *out_axes, width)."""

    # described here, for docstrings of fields are not inherited
    filter_shape: PerAxis = Field(description="Size of the filter on each of one to three spatial axes.")
    strides: PerAxis | None = Field(default=None, description="One number for each axis; null is 1 on each.")

    shared: ClassVar[bool] = True  # the same weights at every position

    @abstractmethod
    def windows(self, sizes: tuple[int, ...]) -> tuple[Axis, ...]:
        """The windows on spatial axes of those sizes."""

    @abstractmethod
    def steps(self) -> dict[str, PerAxis | None]:
        """The fields with a number for each axis, but for the filter's shape."""

    @property
    def taps(self) -> int:
        """How many positions a window reads."""
        return math.prod(self.filter_shape)

    def axes(self, site: Site) -> tuple[Axis, ...]:
        """The windows on the axes that arrive."""
        return self.windows(known_sizes(site.in_shape))

    def placed_on_axes(self, at: Position) -> Site:
        """The site, checked but for the channels."""
        check_axes(at, "filter_shape", self.filter_shape, self.steps())
        sizes = out_sizes(at, "filter_shape", self.windows(known_sizes(at.shape)))
        return self.placed(at, (*sizes, self.width), lengths_after(at, self.windows))

    def moved(self, site: Site, state: KernelState, groups: int) -> KernelState:
        """The rule: means over the taps of a window, then that of weights on all that the window reads."""
        axes, inputs = self.axes(site), state.inputs

        def summands() -> tuple[Tensor, Tensor]:
            x1, x2 = (self.read(site, x) for x in inputs or ())
            return x1, x2

        means = state.mapped(lambda moment, leading: shifted_mean(moment, leading, axes))
        return self.affine(site, means, self.taps / groups, None if inputs is None else summands)

    @final
    def needs(self, site: Site, wanted: Needs) -> Needs:
        return wanted  # both positions of a covariance are shifted together

    @final
    def read(self, site: Site, x: Tensor) -> Tensor:
        read = patches(x, self.axes(site))
        return read.reshape(*read.shape[:3], self.groups_of(site), -1).transpose(2, 3).flatten(2)

    @final
    def sums(self, site: Site) -> Sums:
        positions = math.prod(known_sizes(site.out_shape))
        width = site.known_size(site.out_shape)
        return Sums(positions, self.fan_in(site), width, self.shared, self.groups_of(site))

    @final
    def groups_of(self, site: Site) -> int:
        """In how many groups channels are split."""
        return self.taps * site.known_size(site.in_shape) // self.fan_in(site)


@spec
class Conv(Convolution):
    """Convolution: `y[p] = W_std n^-a sum_{t, k} W[t, k] x[s p + d t, k] + b_std b` over the taps t of a
    filter and the channels k, with strides s and dilation d; n = taps C / groups.

    W has shape (*filter_shape, C / groups, width), b has shape (width,). As in machine learning the filter is
    not flipped. Covariances between positions become means over the taps, both positions shifted together
    (Novak et al., "Bayesian deep convolutional networks with many channels are Gaussian processes", 2019;
    Arora et al., "On exact computation with an infinitely wide neural net", 2019).
    """

    kind: Literal["conv"] = "conv"
    padding: Annotated[Padding, Field(description=PADDING)] = "VALID"
    dilation: PerAxis | None = None
    """Distance between taps, one number for each axis; null is 1 on each."""
    groups: Annotated[int, Field(ge=1, le=10**6, strict=True)] = 1
    """In how many groups channels are split; each sees its own share of the incoming ones. For a kernel of
    infinite width it stays as the width grows."""

    def windows(self, sizes: tuple[int, ...]) -> tuple[Axis, ...]:
        ones = (1,) * len(sizes)
        lists = (self.filter_shape, self.strides or ones, self.dilation or ones)
        return tuple(moving(*numbers, self.padding) for numbers in zip(sizes, *lists, strict=True))

    def steps(self) -> dict[str, PerAxis | None]:
        return {"strides": self.strides, "dilation": self.dilation}

    def place(self, at: Position) -> Site:
        for channels in (at.shape[-1], self.width):
            if channels is not None and channels % self.groups:
                raise SpecError(
                    f"{at.path}: {channels} channels do not split into {self.groups} groups",
                    pointer=f"{pointer_of(at.path)}/groups",
                    hint="choose groups that divide the incoming channels and the width",
                )
        return self.placed_on_axes(at)

    def fan_in(self, site: Site) -> int:
        return self.taps * site.known_size(site.in_shape) // self.groups

    def weight_shape(self, site: Site) -> tuple[int, ...]:
        channels = site.known_size(site.in_shape) // self.groups
        return (*self.filter_shape, channels, site.known_size(site.out_shape))

    def bias_shape(self, site: Site) -> tuple[int, ...]:
        return (site.known_size(site.out_shape),)

    def arranged(self, site: Site, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return from_channel_rows(rows, self.filter_shape, rows.shape[1:])

    def summed(self, site: Site, W: Tensor, x: Tensor) -> Tensor:
        row = laid_out(x, self.axes(site)).movedim(-1, 1)
        filters = W.movedim((-1, -2), (0, 1))
        steps: Any = {"stride": self.strides or 1, "dilation": self.dilation or 1}
        y = convolution(len(self.filter_shape))(row, filters, groups=self.groups, **steps)
        return cast("Tensor", y.movedim(1, -1))

    def rule(self, site: Site, state: KernelState) -> KernelState:
        if self.groups > 1 and state.inputs is not None:
            raise site.unsupported(
                "groups of the inputs' own channels see different covariances, which this rule does not keep",
                'use "groups": 1 in the first convolution',
            )
        if self.groups > 1 and self.groups == site.in_shape[-1]:
            raise site.unsupported(
                "a depthwise convolution sums over no channels, so that wide layers do not become Gaussian",
                "use fewer groups than channels, or ask for a Monte-Carlo kernel (of kind monte_carlo)",
            )
        return self.moved(site, state, self.groups)


def convolution(axes: int) -> Any:
    """Torch's convolution over that many axes."""
    from torch.nn import functional

    return (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]


def from_channel_rows(rows: NDArray[np.float64], filter_shape: Shape, columns: Shape) -> NDArray[np.float64]:
    """W (*filter, C, *columns) from one row for each channel and tap, channels outside: a channel more adds
    rows at the end."""
    sizes = cast("tuple[int, ...]", (-1, *filter_shape, *columns))
    return np.moveaxis(rows.reshape(sizes), 0, len(filter_shape))
