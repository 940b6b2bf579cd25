"""The dense layer: its finite map, its infinite-width rule and its share of the empirical NTK."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ntkengine.blocks import Sums
from ntkengine.layer import Position, Site
from ntkengine.layers.weighted import Weighted
from ntkengine.layers.windows import known_sizes
from ntkengine.positions import Needs
from ntkengine.spec import spec
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor


@spec
class Dense(Weighted):
    """Fully connected: `y = W_std n^-a sum_k W[k] x[k] + b_std b` over the n incoming features, the same at
    every position where there are spatial axes.

    W has shape (n, width), b has shape (width,); (a, b, c) come from the parameterization. Under
    `standard`, W_std and b_std scale the laws instead and are no part of the function.
    """

    kind: Literal["dense"] = "dense"

    def place(self, at: Position) -> Site:
        return self.placed(at, (*at.shape[:-1], self.width), at.lengths)

    def fan_in(self, site: Site) -> int:
        return site.known_size(site.in_shape)

    def weight_shape(self, site: Site) -> tuple[int, ...]:
        return self.fan_in(site), site.known_size(site.out_shape)

    def bias_shape(self, site: Site) -> tuple[int, ...]:
        return (site.known_size(site.out_shape),)

    def arranged(self, site: Site, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return rows

    def summed(self, site: Site, W: Tensor, x: Tensor) -> Tensor:
        return x @ W

    def needs(self, site: Site, wanted: Needs) -> Needs:
        return wanted

    def rule(self, site: Site, state: KernelState) -> KernelState:
        inputs = state.inputs
        return self.affine(site, state, 1.0, None if inputs is None else lambda: inputs)

    def read(self, site: Site, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, x.shape[-1])

    def sums(self, site: Site) -> Sums:
        positions = math.prod(known_sizes(site.in_shape))
        return Sums(positions, self.fan_in(site), site.known_size(site.out_shape))
