"""Layers made of layers: in sequence, repeated, side by side."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

from pydantic import Field

from ntkengine.errors import SpecError, pointer_of
from ntkengine.features import SinceFork
from ntkengine.layer import Part, Position, Shape, Site, WithoutTensors
from ntkengine.layers.merging import MERGES, Merge
from ntkengine.positions import Extent, Needs
from ntkengine.spec import spec
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.layers import AnyLayer


class InSequence(WithoutTensors):
    """Layers one after the other: subclasses say which."""

    @abstractmethod
    def sequence(self) -> tuple[AnyLayer, ...]:
        """The layers, first one first."""

    @final
    def any_weights(self) -> bool:
        return any(layer.any_weights() for layer in self.sequence())

    @final
    def place(self, at: Position) -> Site:
        sites: list[Site] = []
        here = at
        prefix = f"{at.path}." if at.path else ""
        layers = self.sequence()
        weighted = [index for index, layer in enumerate(layers) if layer.any_weights()]
        first, last = (weighted[0], weighted[-1]) if weighted else (len(layers), -1)
        for index, layer in enumerate(layers):
            here = replace(
                here,
                path=f"{prefix}{self.parts_field}.{index}",
                weights_before=at.weights_before or index > first,
                weights_after=at.weights_after or index < last,
            )
            site = layer.place(here)
            here = replace(here, shape=site.out_shape, lengths=site.out_lengths)
            sites.append(site)
        return at.site(self, here.shape, here.lengths, tuple(sites))

    @final
    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        for inner, part in zip(site.parts, parts, strict=True):
            y = part(x, lengths)
            if inner.out_lengths is not None:
                lengths = inner.out_lengths.of(x, inner.path) if lengths is None else lengths
                inner.out_lengths.check(lengths, inner.path)
                y = inner.out_lengths.cut(y, lengths)
            x = y
        return x

    @final
    def needs(self, site: Site, wanted: Needs) -> Needs:
        return needs_of(site.parts, wanted)[0]

    @final
    def rule(self, site: Site, state: KernelState) -> KernelState:
        for part, needs in zip(site.parts, needs_of(site.parts, Needs()), strict=True):
            state = part.after(state.trimmed(needs))
        return state


def needs_of(parts: tuple[Site, ...], wanted: Needs) -> list[Needs]:
    """What each of the layers in sequence needs, where `wanted` is wanted of the last one."""
    backward = []
    for part in reversed(parts):
        wanted = part.layer.needs(part, wanted)
        backward.append(wanted)
    return backward[::-1]


# Fields that hold layers are described in place: a docstring is lost when the union is built into the class.


@spec
class Serial(InSequence):
    """Layers in sequence, as one layer."""

    kind: Literal["serial"] = "serial"
    layers: Annotated[tuple[AnyLayer, ...], Field(min_length=1, description="The layers, first one first.")]

    parts_field: ClassVar[str] = "layers"

    def sequence(self) -> tuple[AnyLayer, ...]:
        return self.layers


@spec
class Repeat(InSequence):
    """The same layer several times in sequence, each time with weights of its own."""

    kind: Literal["repeat"] = "repeat"
    layer: Annotated[AnyLayer, Field(description="What is repeated; a serial layer for several of them.")]
    times: Annotated[int, Field(ge=1, le=1000, strict=True, description="How often.")]

    parts_field: ClassVar[str] = "copies"

    def sequence(self) -> tuple[AnyLayer, ...]:
        return (self.layer,) * self.times


@spec
class Parallel(WithoutTensors):
    """Branches side by side, each with weights of its own, merged into one: a residual block is the sum of an
    identity and a serial layer.

    The infinite-width rule of a sum or a product needs branches that are uncorrelated: all but one must end
    with weights (pooling, flattening, normalisation may follow these).
    """

    kind: Literal["parallel"] = "parallel"
    branches: Annotated[
        tuple[AnyLayer, ...], Field(min_length=1, description="Each gets the same input; serial for several.")
    ]
    merge: Annotated[
        Literal["sum", "product", "concat"],
        Field(description="How outputs become one: `sum`, elementwise `product`, or `concat` of features."),
    ] = "sum"

    parts_field: ClassVar[str] = "branches"

    def any_weights(self) -> bool:
        return any(layer.any_weights() for layer in self.branches)

    def place(self, at: Position) -> Site:
        prefix = f"{at.path}." if at.path else ""
        sites = tuple(
            layer.place(replace(at, path=f"{prefix}branches.{index}"))
            for index, layer in enumerate(self.branches)
        )
        shape = self._merged_shape(at.path, [site.out_shape for site in sites])
        if len({site.out_lengths for site in sites}) > 1:
            raise SpecError(
                f"{at.path}: the branches end with different lengths for some inputs",
                pointer=pointer_of(at.path),
                hint="give convolutions and pooling of all branches the same padding and strides",
            )
        return at.site(self, shape, sites[0].out_lengths, sites)

    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        return self._merge().finite([part(x, lengths) for part in parts])

    def needs(self, site: Site, wanted: Needs) -> Needs:
        result = Needs(Extent.DIAGONAL, Extent.NONE)
        for part in site.parts:
            result = result.and_those_of(part.layer.needs(part, wanted))
        return result

    def rule(self, site: Site, state: KernelState) -> KernelState:
        fork = replace(state, since_fork=SinceFork.KEPT, notes=None)
        ends = [part.after(fork) for part in site.parts]
        least = Needs(min(s.extents.between for s in ends), min(s.extents.within for s in ends))
        ends = [end.trimmed(least) for end in ends]
        if all(end.inputs is not None for end in ends):
            first, second = zip(*(end.known_inputs() for end in ends), strict=True)
            merge = self._merge()
            return ends[0].with_inputs(merge.finite(list(first)), merge.finite(list(second)))
        return self._merge().moments(site, state, ends)

    def _merge(self) -> Merge:
        return MERGES[self.merge]

    def _merged_shape(self, path: str, shapes: list[Shape]) -> Shape:
        """The shape of the merged branches, checked to fit together."""
        axes = {shape[:-1] for shape in shapes}
        channels = [shape[-1] for shape in shapes]
        merged = self._merge().width(channels)
        if len(axes) > 1 or merged is None:
            raise SpecError(
                f"{path}: the branches end with shapes {', '.join(map(str, shapes))}, "
                f"which have no {self.merge}",
                pointer=pointer_of(path),
                hint="give the branches the same spatial axes and, unless they are concatenated, "
                "the same width",
            )
        return (*shapes[0][:-1], merged.value)
