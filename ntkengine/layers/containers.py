"""Layers made of layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ntkengine.layer import Part, Position, Site, WithoutTensors
from ntkengine.positions import Needs
from ntkengine.spec import spec
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.layers import AnyLayer


@spec
class Serial(WithoutTensors):
    """Layers in sequence, as one layer."""

    kind: Literal["serial"] = "serial"
    # described here, for a docstring is lost when the class is rebuilt with the union that it is part of
    layers: Annotated[tuple[AnyLayer, ...], Field(min_length=1, description="The layers, first one first.")]

    parts_field: ClassVar[str] = "layers"

    def any_weights(self) -> bool:
        return any(layer.any_weights() for layer in self.layers)

    def place(self, at: Position) -> Site:
        sites: list[Site] = []
        here = at
        prefix = f"{at.path}." if at.path else ""
        weighted = [index for index, layer in enumerate(self.layers) if layer.any_weights()]
        first, last = (weighted[0], weighted[-1]) if weighted else (len(self.layers), -1)
        for index, layer in enumerate(self.layers):
            here = replace(
                here,
                path=f"{prefix}layers.{index}",
                weights_before=at.weights_before or index > first,
                weights_after=at.weights_after or index < last,
            )
            site = layer.place(here)
            here = replace(here, shape=site.out_shape)
            sites.append(site)
        return Site(layer=self, path=at.path, in_shape=at.shape, out_shape=here.shape, parts=tuple(sites))

    def apply(self, site: Site, params: Mapping[str, Tensor], x: Tensor, parts: tuple[Part, ...]) -> Tensor:
        for part in parts:
            x = part(x)
        return x

    def needs(self, site: Site, wanted: Needs) -> Needs:
        return needs_of(site.parts, wanted)[0]

    def rule(self, site: Site, state: KernelState) -> KernelState:
        for part, needs in zip(site.parts, needs_of(site.parts, Needs()), strict=True):
            state = part.layer.rule(part, state.trimmed(needs))
        return state


def needs_of(parts: tuple[Site, ...], wanted: Needs) -> list[Needs]:
    """What each of the layers in sequence needs, where `wanted` is wanted of the last one."""
    backward = []
    for part in reversed(parts):
        wanted = part.layer.needs(part, wanted)
        backward.append(wanted)
    return backward[::-1]
