"""Layers without weights that act on positions or not at all: identity, and aggregation over a graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from ntkengine.errors import SpecError, pointer_of
from ntkengine.layer import FixedMap, Part, Position, Site
from ntkengine.positions import Extent, Needs
from ntkengine.spec import Real, spec
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor


def as_lists(value: Any) -> Any:
    """Nested lists of an array."""
    return value.tolist() if hasattr(value, "tolist") else value


Matrix = Annotated[tuple[tuple[Real, ...], ...], BeforeValidator(as_lists), Field(min_length=1)]


@spec
class Identity(FixedMap):
    """`y = x`: the skip connection of a residual block."""

    kind: Literal["identity"] = "identity"

    is_linear: ClassVar[bool] = True

    def place(self, at: Position) -> Site:
        return at.site(self, at.shape, at.lengths)

    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        return x

    def needs(self, site: Site, wanted: Needs) -> Needs:
        return wanted

    def moments(self, site: Site, state: KernelState) -> KernelState:
        return state


@spec
class Aggregate(FixedMap):
    """Graph aggregation: `y[p] = sum_q pattern[p, q] x[q]` over the P positions, the nodes of one graph.

    Moments become `pattern K pattern^T` in the positions of both inputs (Du et al., "Graph neural tangent
    kernel", 2019, without its own weights).
    """

    kind: Literal["aggregate"] = "aggregate"
    pattern: Matrix
    """The matrix (P, P) of the graph, such as its normalised adjacency; P positions, row by row."""

    is_linear: ClassVar[bool] = True

    def place(self, at: Position) -> Site:
        axes = [axis for axis in at.shape[:-1] if axis is not None]
        positions = math.prod(axes)
        sizes = {len(self.pattern), *map(len, self.pattern)}
        if not axes or sizes != {positions}:
            raise SpecError(
                f"{at.path}: the pattern has {len(self.pattern)} rows, the input {positions} positions "
                f"(its shape is (n, {', '.join(map(str, at.shape))}))",
                pointer=f"{pointer_of(at.path)}/pattern",
                hint="give inputs of shape (n, nodes, features) and a pattern of shape (nodes, nodes)",
            )
        at.check_one_length("the pattern is that of a graph with all of its nodes")
        return at.site(self, at.shape, None)

    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        nodes = x.flatten(1, -2)
        return (self._matrix(x) @ nodes).reshape(x.shape)

    def needs(self, site: Site, wanted: Needs) -> Needs:
        return Needs(Extent.FULL, Extent.FULL if wanted.within else Extent.NONE)

    def moments(self, site: Site, state: KernelState) -> KernelState:
        matrix = self._matrix(state.nngp.pair)
        return state.mixed(lambda moment, _: matrix @ moment @ matrix.T)

    def _matrix(self, like: Tensor) -> Tensor:
        import torch

        return torch.as_tensor(self.pattern, dtype=like.dtype, device=like.device)
