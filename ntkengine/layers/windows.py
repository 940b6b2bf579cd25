"""Windows that move along spatial axes: their geometry, and sums over them. Torch-free until it computes.

One picture holds for convolutions, transposed convolutions and pooling: the entries of an axis are laid out
in a row, with padding before, after or in between, and a window of some taps moves over that row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.errors import SpecError, UnsupportedError, pointer_of
from ntkengine.layer import Position, Shape
from ntkengine.lengths import Lengths, Table

if TYPE_CHECKING:
    from torch import Tensor

# Bounded, so that no axis is laid out in more places than memory holds.
Step = Annotated[int, Field(ge=1, le=10_000, strict=True)]
PerAxis = Annotated[tuple[Step, ...], Field(min_length=1, max_length=3)]
Padding = Literal["SAME", "VALID", "CIRCULAR"]

PADDING = (
    "As XLA defines it. `VALID`: none; `SAME`: zeros, so that there are ceil(size / stride) outputs, the odd "
    "one at the end; `CIRCULAR`: as wide as SAME, but the axis goes around."
)

EMPTY = -1  # a place of the row that holds padding


class Run(NamedTuple):
    """Outputs that a tap reads in equal steps, and the inputs that it reads there."""

    outputs: slice
    inputs: slice


@dataclass(frozen=True)
class Axis:
    """A window of some taps on one axis: tap t of output o reads the place `stride o + dilation t` of a row.

    The row has the entries of the axis `spacing` places apart, and places before and after them. What is not
    an entry is padding; on an axis that goes `around`, the places hold entries of the other end."""

    size: int
    taps: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    spacing: int = 1
    around: bool = False

    @property
    def outputs(self) -> int:
        """How many windows fit; less than 1 where none does."""
        places = self.before + self.spacing * (self.size - 1) + 1 + self.after
        return (places - self.dilation * (self.taps - 1) - 1) // self.stride + 1

    @property
    def padded(self) -> bool:
        """The row is more than the entries in their order."""
        return (self.before, self.after, self.spacing) != (0, 0, 1)

    @cached_property
    def row(self) -> tuple[int, ...]:
        """The entry at each place, or EMPTY."""
        if self.around:
            return tuple(place % self.size for place in range(-self.before, self.size + self.after))
        between = [EMPTY] * (self.spacing - 1)
        entries = [place for entry in range(self.size) for place in (entry, *between)]
        return (*[EMPTY] * self.before, *entries[: len(entries) - len(between)], *[EMPTY] * self.after)

    def begins_as(self, other: Axis) -> bool:
        """Its windows read what those of the other, longer axis do, but for entries that it does not have."""
        return self.before == other.before and not (self.around and (self.before or other.before))

    @cached_property
    def sources(self) -> NDArray[np.int64]:
        """The entry that each tap of each output reads, (outputs, taps)."""
        places = self.stride * np.arange(self.outputs)[:, None] + self.dilation * np.arange(self.taps)
        entries: NDArray[np.int64] = np.asarray(self.row, dtype=np.int64)[places]
        return entries

    @cached_property
    def runs(self) -> list[list[Run]]:
        """What each tap reads, as slices; a tap that reads every output in one run comes first."""
        each = [runs_of(self.sources[:, tap]) for tap in range(self.taps)]
        return sorted(each, key=lambda runs: not self.is_whole(runs))

    def is_whole(self, runs: list[Run]) -> bool:
        """One run reads every output."""
        return len(runs) == 1 and runs[0].outputs == slice(0, self.outputs, 1)


def runs_of(sources: NDArray[np.int64]) -> list[Run]:
    """The runs of one tap, from the entry that it reads at each output."""
    outputs = np.flatnonzero(sources != EMPTY)
    points = np.stack((outputs, sources[outputs]), axis=1)
    runs = []
    while len(points):
        run, points = np.split(points, [equal_steps(points)])
        runs.append(Run(*(as_slice(column) for column in run.T.tolist())))
    return runs


def equal_steps(points: NDArray[np.int64]) -> int:
    """How many of the points, from the first on, go upwards in equal steps."""
    steps = np.diff(points, axis=0)
    if not len(steps) or steps[0].min() < 1:  # the axis goes around
        return 1
    return 1 + int(np.cumprod((steps == steps[0]).all(axis=1)).sum())


def as_slice(numbers: list[int]) -> slice:
    """The slice of numbers in equal steps."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    return slice(numbers[0], numbers[-1] + 1, step)


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """How many places are added before and after, so that there are ceil(size / stride) outputs."""
    total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def no_padding(_size: int, _window: int, _stride: int) -> tuple[int, int]:
    """No places are added."""
    return 0, 0


MARGINS: Mapping[Padding, Callable[[int, int, int], tuple[int, int]]] = {
    "VALID": no_padding,
    "SAME": same_padding,
    "CIRCULAR": same_padding,
}


@lru_cache(maxsize=1024)  # with the runs of each, which take longer than sums over small windows
def moving(size: int, taps: int, stride: int, dilation: int, padding: Padding) -> Axis:
    """The window of a convolution or of pooling."""
    before, after = MARGINS[padding](size, dilation * (taps - 1) + 1, stride)
    return Axis(size, taps, stride, dilation, before, after, around=padding == "CIRCULAR")


def transposed_padding(taps: int, stride: int, padding: Literal["SAME", "VALID"]) -> tuple[int, int]:
    """Places before and after, as `jax.lax.conv_transpose` has them."""
    if padding == "VALID":
        return taps - 1, stride - 1 + max(taps - stride, 0)
    total = taps + stride - 2
    before = taps - 1 if stride > taps - 1 else math.ceil(total / 2)
    return before, total - before


@lru_cache(maxsize=1024)
def transposed(size: int, taps: int, stride: int, padding: Literal["SAME", "VALID"]) -> Axis:
    """The window of a transposed convolution: it moves by one place, over entries `stride` places apart."""
    before, after = transposed_padding(taps, stride, padding)
    return Axis(size, taps, before=before, after=after, spacing=stride)


def known_sizes(shape: Shape) -> tuple[int, ...]:
    """The spatial sizes of a shape, which are always known."""
    return tuple(size for size in shape[:-1] if size is not None)


def check_axes(at: Position, field: str, window: PerAxis, steps: Mapping[str, PerAxis | None]) -> None:
    """The input has as many spatial axes as the window, and each of the lists has a number for each.

    Raises:
        SpecError: which names the field.
    """
    axes = len(at.shape) - 1
    if axes != len(window):
        raise SpecError(
            f"{at.path}: {field} has {len(window)} numbers, the input {axes} spatial axes "
            f"(its shape is (n, {', '.join(map(str, at.shape))}))",
            pointer=f"{pointer_of(at.path)}/{field}",
            hint="give inputs of shape (n, *axes, channels) and one number for each axis",
        )
    for name, values in steps.items():
        if values is not None and len(values) != axes:
            raise SpecError(
                f"{at.path}: {name} has {len(values)} numbers, the input {axes} spatial axes",
                pointer=f"{pointer_of(at.path)}/{name}",
                hint="give one number for each axis, or null for 1",
            )


def out_sizes(at: Position, field: str, axes: Sequence[Axis]) -> tuple[int, ...]:
    """How many outputs there are on each axis.

    Raises:
        SpecError: none, for a window is larger than its axis.
    """
    for axis in axes:
        if axis.outputs < 1:
            raise SpecError(
                f"{at.path}: a window of {axis.dilation * (axis.taps - 1) + 1} does not fit on an axis of "
                f"{axis.size}",
                pointer=f"{pointer_of(at.path)}/{field}",
                hint='use a smaller window, or "padding": "SAME"',
            )
    return tuple(axis.outputs for axis in axes)


def lengths_after(at: Position, windows: Callable[[tuple[int, ...]], tuple[Axis, ...]]) -> Lengths | None:
    """The lengths that windows leave of those that arrive.

    Raises:
        UnsupportedError: padding depends on the length, so that windows of a shorter input lie elsewhere.
    """
    if at.lengths is None:
        return None
    sizes = known_sizes(at.shape)
    of_size = [windows((size,) * len(sizes)) for size in range(1, max(sizes) + 1)]
    tables: list[Table] = []
    for index, table in enumerate(at.lengths.tables):
        axes = [axes[index] for axes in of_size[: sizes[index]]]
        whole = axes[-1]
        if not all(axes[length - 1].begins_as(whole) for length in set(table) - {0}):
            raise UnsupportedError(
                f"{at.path}: its padding depends on the length of an input, so that inputs of different "
                "lengths are not read alike",
                pointer=f"{pointer_of(at.path)}/padding",
                hint='use "padding": "VALID", or "SAME" with strides of 1',
            )
        left = (0, *(max(axis.outputs, 0) for axis in axes))
        tables.append(tuple(left[length] for length in table))
    return replace(at.lengths, tables=tuple(tables))


def window_sum(x: Tensor, dims: Sequence[int], axis: Axis) -> Tensor:
    """Sums over the taps of a window that moves along one axis or, over the entries that one tap reads at the
    same time, along several: `sum_t x[.., row[s o + d t], .., row[s o' + d t], ..]`."""
    import torch

    def part(tensor: Tensor, slices: tuple[slice, ...]) -> Tensor:
        index = [slice(None)] * tensor.ndim
        for dim, where in zip(dims, slices, strict=True):
            index[dim] = where
        return tensor[tuple(index)]

    first, *others = axis.runs
    if axis.is_whole(first):
        result = part(x, (first[0].inputs,) * len(dims)).clone()
    else:
        others = axis.runs
        shape = [axis.outputs if d in dims else size for d, size in enumerate(x.shape)]
        result = torch.empty_permuted(shape, in_memory(x), dtype=x.dtype, device=x.device).zero_()
    for runs in others:
        for chosen in product(runs, repeat=len(dims)):
            into = part(result, tuple(run.outputs for run in chosen))
            into += part(x, tuple(run.inputs for run in chosen))
    return result


def in_memory(x: Tensor) -> list[int]:
    """Dimensions, from the one whose neighbours are farthest apart in memory on."""
    strides = x.stride()
    return sorted(range(x.ndim), key=lambda dim: -strides[dim])


def on_grid(moment: Tensor, leading: int, axes: Sequence[Axis]) -> Tensor:
    """A moment with the positions of its one or two points on their own axes."""
    points = moment.ndim - leading
    return moment.reshape(*moment.shape[:leading], *[axis.size for axis in axes] * points)


def on_one_axis(grid: Tensor, leading: int, axes: Sequence[Axis]) -> Tensor:
    """Back, at the outputs."""
    points = (grid.ndim - leading) // len(axes)
    return grid.reshape(*grid.shape[:leading], *[math.prod(axis.outputs for axis in axes)] * points)


def shifted_mean(moment: Tensor, leading: int, axes: Sequence[Axis]) -> Tensor:
    """Means over the taps of a filter, which both positions go through together:
    `K'(p, p') = 1/taps sum_t K(s p + d t, s p' + d t)`, and padding adds 0."""
    grid = on_grid(moment, leading, axes)
    for index, axis in enumerate(axes):
        grid = window_sum(grid, range(leading + index, grid.ndim, len(axes)), axis)
    return on_one_axis(grid, leading, axes).div_(math.prod(axis.taps for axis in axes))


def pooled_sum(moment: Tensor, leading: int, axes: Sequence[Axis]) -> Tensor:
    """Sums over a window of each of the two positions by itself."""
    grid = on_grid(moment, leading, axes)
    for dim in range(leading, grid.ndim):
        grid = window_sum(grid, [dim], axes[(dim - leading) % len(axes)])
    return on_one_axis(grid, leading, axes)


def laid_out(x: Tensor, axes: Sequence[Axis]) -> Tensor:
    """Features (n, *sizes, C) with the rows of the axes in place of their entries."""
    for dim, axis in enumerate(axes, start=1):
        if axis.padded:
            x = read(x, dim, axis.row, 0.0)
    return x


def patches(x: Tensor, axes: Sequence[Axis]) -> Tensor:
    """What each window of features (n, *sizes, C) reads: (n, positions, taps, C)."""
    for index, axis in enumerate(axes):
        x = windows_on(x, 1 + 2 * index, axis)
    count = len(axes)
    order = [1 + 2 * index + which for which in (0, 1) for index in range(count)]
    return x.permute(0, *order, -1).flatten(1 + count, 2 * count).flatten(1, count)


def windows_on(x: Tensor, dim: int, axis: Axis, fill: float = 0.0) -> Tensor:
    """What each window on one dimension reads: (.., outputs, taps, ..) in the place of its entries."""
    taps = read(x, dim, axis.sources.ravel(), fill)
    return taps.reshape(*x.shape[:dim], *axis.sources.shape, *x.shape[dim + 1 :])


def read(x: Tensor, dim: int, entries: Sequence[int] | NDArray[np.int64], fill: float) -> Tensor:
    """The entries of one dimension at those places; EMPTY ones are filled in."""
    import torch
    from torch.nn.functional import pad

    places = torch.as_tensor(np.asarray(entries) % (x.shape[dim] + 1), device=x.device)  # EMPTY is the last
    below = [0, 0] * (x.ndim - 1 - dim)
    return pad(x, [*below, 0, 1], value=fill).index_select(dim, places)
