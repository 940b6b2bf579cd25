"""The mask: what tells inputs of different lengths apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from ntkengine.errors import SpecError, pointer_of
from ntkengine.layer import FixedMap, Part, Position, Site
from ntkengine.layers.windows import known_sizes
from ntkengine.lengths import Lengths
from ntkengine.positions import Needs
from ntkengine.spec import Real, spec
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor


@spec
class Mask(FixedMap):
    """Inputs (n, *axes, C) of different lengths, filled up at the end of each axis with positions that hold
    `constant` in every channel. It is the first layer of a network.

    Every layer does to an input what it would do to the input alone: kernels and outputs do not depend on how
    much it was filled up. Outputs with positions are 0 behind the end of an input.
    """

    kind: Literal["mask"] = "mask"
    constant: Real
    """What the positions that fill up an input hold in each channel: a number that its last position does not
    hold in all of them."""

    def place(self, at: Position) -> Site:
        if at.path != "layers.0" or len(at.shape) < 2:
            raise SpecError(
                f"{at.path}: a mask is the first layer, of inputs (n, *axes, channels); these are "
                f"(n, {', '.join(map(str, at.shape))})",
                pointer=pointer_of(at.path),
                hint="move it to the front, or leave it out where inputs have no positions",
            )
        return at.site(self, at.shape, Lengths.of_inputs(self.constant, known_sizes(at.shape)))

    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        return x  # the frame puts 0 where an input has ended, here as behind every layer

    def needs(self, site: Site, wanted: Needs) -> Needs:
        return wanted

    def moments(self, site: Site, state: KernelState) -> KernelState:
        return state


def check_lengths(site: Site, x: Tensor) -> None:
    """Every one of some inputs is long enough for every layer of a network.

    Raises:
        SpecError: one is not, or is not padded at the end alone.
    """
    masked = [(leaf.out_lengths, leaf.path) for leaf in site.leaves() if leaf.out_lengths is not None]
    for first, path in masked[:1]:
        lengths = first.of(x, path)
        for there, where in masked:
            there.check(lengths, where)
