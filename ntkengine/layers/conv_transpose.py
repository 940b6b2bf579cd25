"""The transposed convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.layer import Position, Site
from ntkengine.layers.conv import Convolution, from_channel_rows
from ntkengine.layers.windows import Axis, PerAxis, transposed, transposed_padding
from ntkengine.spec import spec
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor


@spec
class ConvTranspose(Convolution):
    """Transposed (fractionally strided) convolution: a convolution of stride 1 over the inputs with
    `strides - 1` zeros between them, `y[p] = W_std n^-a sum_{t, k} W[t, k] x~[p + t, k] + b_std b` over the
    taps t of a filter and the channels k; n = taps C.

    W has shape (*filter_shape, C, width), b has shape (width,). As in `jax.lax.conv_transpose` the filter is
    not flipped (torch's ConvTranspose flips it). Taps that read zeros count in n.
    """

    kind: Literal["conv_transpose"] = "conv_transpose"
    padding: Literal["SAME", "VALID"] = Field(
        default="VALID",
        description="As `jax.lax.conv_transpose` defines it. `SAME`: size * stride outputs; `VALID`: "
        "size * stride + max(filter - stride, 0).",
    )

    def windows(self, sizes: tuple[int, ...]) -> tuple[Axis, ...]:
        strides = self._strides()
        return tuple(
            transposed(size, taps, stride, self.padding)
            for size, taps, stride in zip(sizes, self.filter_shape, strides, strict=True)
        )

    def steps(self) -> dict[str, PerAxis | None]:
        return {"strides": self.strides}

    def place(self, at: Position) -> Site:
        return self.placed_on_axes(at)

    def fan_in(self, site: Site) -> int:
        return self.taps * site.known_size(site.in_shape)

    def weight_shape(self, site: Site) -> tuple[int, ...]:
        return (*self.filter_shape, site.known_size(site.in_shape), site.known_size(site.out_shape))

    def bias_shape(self, site: Site) -> tuple[int, ...]:
        return (site.known_size(site.out_shape),)

    def arranged(self, site: Site, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return from_channel_rows(rows, self.filter_shape, rows.shape[1:])

    def summed(self, site: Site, W: Tensor, x: Tensor) -> Tensor:
        from torch.nn.functional import pad

        axes = range(len(self.filter_shape))
        filters = W.flip(tuple(axes)).movedim((-2, -1), (0, 1))
        # torch gives the outputs of a row with taps - 1 places before and after
        full = transposed_convolution(len(axes))(x.movedim(-1, 1), filters, stride=self._strides())
        margins: list[int] = []
        for taps, stride in zip(self.filter_shape, self._strides(), strict=True):
            before, after = transposed_padding(taps, stride, self.padding)
            margins = [before - (taps - 1), after - (taps - 1), *margins]
        return pad(full, margins).movedim(1, -1)

    def rule(self, site: Site, state: KernelState) -> KernelState:
        return self.moved(site, state, groups=1)

    def _strides(self) -> tuple[int, ...]:
        return self.strides or (1,) * len(self.filter_shape)


def transposed_convolution(axes: int) -> Any:
    """Torch's transposed convolution over that many axes."""
    from torch.nn import functional

    return (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[axes - 1]
