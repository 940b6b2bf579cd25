"""The abstract layer: one class holds a layer's fields, its finite map and its infinite-width rule.

A concrete layer is a frozen spec. Maps that compute import torch inside their bodies, so that specs
validate without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from ntkengine.blocks import LinearMap
from ntkengine.errors import SpecError, UnsupportedError, pointer_of
from ntkengine.laws import Law
from ntkengine.lengths import Lengths
from ntkengine.parameterizations import Parameterization, Role, Scaling
from ntkengine.positions import Needs
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int | None, ...]  # of one sample, channel last; None where a width was left out


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a layer is about to be placed: the path, the shape that arrives, weights before and after; the
    lengths that arrive, where these differ between inputs."""

    path: str
    shape: Shape
    parameterization: Parameterization
    weights_before: bool
    weights_after: bool
    lengths: Lengths | None = None

    @property
    def role(self) -> Role:
        if not self.weights_before:
            return Role.INPUT
        return Role.HIDDEN if self.weights_after else Role.READOUT

    @property
    def only(self) -> bool:
        """No other layer has weights."""
        return not (self.weights_before or self.weights_after)

    def scaling(self, override: Parameterization | None) -> Scaling:
        """The row of the table for a layer with weights that stands here."""
        table = override or self.parameterization
        try:
            return table.table()[self.role]
        except KeyError:
            raise SpecError(
                f"{self.path}: the {table.kind} parameterization has no {self.role} layers: "
                "it is defined for one hidden layer",
                pointer=pointer_of(self.path),
                hint="use one hidden layer, or the parameterization ntk, standard or abc",
            ) from None

    def site(self, layer: Layer, shape: Shape, lengths: Lengths | None, parts: tuple[Site, ...] = ()) -> Site:
        """The layer in this place, with the shape and the lengths that leave it."""
        return Site(
            layer=layer,
            path=self.path,
            in_shape=self.shape,
            out_shape=shape,
            in_lengths=self.lengths,
            out_lengths=lengths,
            parts=parts,
        )

    def check_one_length(self, why: str) -> None:
        """Refuse inputs of different lengths.

        Raises:
            UnsupportedError: they are such; the message says why they make no sense here.
        """
        if self.lengths is not None:
            raise UnsupportedError(
                f"{self.path}: inputs of different lengths have no meaning here: {why}",
                pointer=pointer_of(self.path),
                hint="put global_avg_pool or global_sum_pool before it, or give all inputs one length and "
                "leave out the mask",
            )


@dataclass(frozen=True, kw_only=True)
class Site:
    """A layer in its place in a network; its maps take the site as their first argument."""

    layer: Layer
    path: str
    in_shape: Shape
    out_shape: Shape
    scaling: Scaling = field(default_factory=Scaling)
    role: Role | None = None  # None: no weights
    only: bool = False  # no other layer has weights, so no hidden width exists
    starts_at_zero: bool = False  # its weights, which are trained
    random: bool = False  # its map is another one in every pass
    parts: tuple[Site, ...] = ()
    in_lengths: Lengths | None = None  # None: all inputs have the same
    out_lengths: Lengths | None = None

    def leaves(self) -> Iterator[Site]:
        """The layers without parts, in the order in which data meets them."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()

    def known_size(self, shape: Shape) -> int:
        """The number of features of that shape, which must not have been left out."""
        size = shape[-1]
        if size is None:
            raise SpecError(
                f"{self.path}: a finite network needs the width of every layer up to here",
                pointer=pointer_of(self.path),
                hint='give "width" in every layer that has one',
            )
        return size

    def rate(self, tensor: str) -> float:
        """The factor N^-c on the learning rate of a tensor of this layer, N the hidden width it touches."""
        c, of_bias = self.scaling.c, self.scaling.c_bias
        if tensor == "b" and of_bias is not None:
            c = of_bias
        if self.role is None or c == 0:
            return 1.0
        shape = self.out_shape if self.role is Role.INPUT else self.in_shape
        return 1.0 if self.only else float(self.known_size(shape)) ** -float(c)

    def unsupported(self, what: str, hint: str) -> UnsupportedError:
        return UnsupportedError(f"{self.path}: {what}", pointer=pointer_of(self.path), hint=hint)

    def present(self, lengths: Tensor | None) -> Tensor | None:
        """Which positions arrive of inputs of those lengths, (n, *axes); None where all do."""
        return None if lengths is None or self.in_lengths is None else self.in_lengths.present(lengths)

    def after(self, state: KernelState) -> KernelState:
        """The layer's rule, and 0 where an input has ended."""
        state = self.layer.rule(self, state).noted_since(state)
        return state if self.out_lengths is None else state.cut(self.out_lengths, self.path)


Part = Callable[["Tensor", "Tensor | None"], "Tensor"]
# Is told of a linear map, by the name of its weights, what it reads and gives; returns what goes on.
Recorder = Callable[[str, "Tensor", "Tensor"], "Tensor"]


class Layer(ABC):
    """A map of features with, where it has them, trained tensors and an infinite-width rule."""

    kind: str
    is_linear: ClassVar[bool] = False  # in its inputs, at fixed weights
    parts_field: ClassVar[str] = "parts"  # the field that holds inner layers; it is part of their paths

    @abstractmethod
    def any_weights(self) -> bool:
        """Whether the layer, or one inside it, has trained tensors."""

    @abstractmethod
    def place(self, at: Position) -> Site:
        """The layer's site, its output shape inferred and checked. Torch-free.

        Raises:
            SpecError: the shape that arrives does not fit.
        """

    @abstractmethod
    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        """Shapes of the layer's own trained tensors by name (`W`, `b`)."""

    @abstractmethod
    def draw(self, site: Site, rows: RowStreams) -> dict[str, NDArray[np.float64]]:
        """Fresh trained tensors by name, drawn from their laws."""

    @abstractmethod
    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        """The finite map on a batch `x` of shape (n, *in_shape), to (n, *out_shape).

        Where inputs differ in their `lengths` (n, axes), `site.present` says which positions there are: x is
        0 at the others, and what this gives there is put to 0 afterwards.
        """

    @abstractmethod
    def needs(self, site: Site, wanted: Needs) -> Needs:
        """What the rule needs of the covariance between positions, where `wanted` is wanted of its result."""

    @abstractmethod
    def rule(self, site: Site, state: KernelState) -> KernelState:
        """The infinite-width rule.

        Raises:
            UnsupportedError: there is none; the message names the layer's path.
        """

    @abstractmethod
    def linear_maps(self, site: Site) -> tuple[LinearMap, ...]:
        """The linear maps that have the layer's own trained tensors, each of these in one."""

    def recorded(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        lengths: Tensor | None,
        record: Recorder,
    ) -> Tensor:
        """The finite map, which goes on with what `record` returns for the output of each linear map, with
        positions on its first axes after the rows'. Here the layer is one linear map."""
        (linear_map,) = self.linear_maps(site)
        return record(linear_map.tensors[0], x, self.apply(site, params, x, (), lengths))

    @abstractmethod
    def read(self, site: Site, x: Tensor) -> Tensor:
        """What weights multiply at each position, (n, positions, fan-in), where x was recorded as read."""


class WithoutTensors(Layer):
    """A layer that has no trained tensors of its own."""

    @final
    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        return {}

    @final
    def draw(self, site: Site, rows: RowStreams) -> dict[str, NDArray[np.float64]]:
        return {}

    @final
    def linear_maps(self, site: Site) -> tuple[LinearMap, ...]:
        return ()

    @final
    def read(self, site: Site, x: Tensor) -> Tensor:
        raise NotImplementedError("a layer without tensors has no share in the NTK")


class FixedMap(WithoutTensors):
    """A map without weights, the same in every network: up to the first weights it acts on the inputs."""

    @final
    def any_weights(self) -> bool:
        return False

    @final
    def rule(self, site: Site, state: KernelState) -> KernelState:
        if state.inputs is None:
            return self.moments(site, state)
        lengths = state.lengths or (None, None)
        x1, x2 = (self.apply(site, {}, x, (), each) for x, each in zip(state.inputs, lengths, strict=True))
        return state if x1 is state.inputs[0] else state.with_inputs(x1, x2)

    @abstractmethod
    def moments(self, site: Site, state: KernelState) -> KernelState:
        """The rule on random features.

        Raises:
            UnsupportedError: there is none; the message names the layer's path.
        """


@dataclass(frozen=True)
class RowStreams:
    """Random streams of one layer, one a row (a fan-in index) of each of its tensors.

    A stream depends on the seed, the layer's path, the tensor and the row alone: draws do not depend
    on the parameterization, and the tensors of a wider net hold those of a narrower one.
    """

    seed: int
    key: tuple[int, ...]

    def matrix(self, law: Law, tensor: int, rows: int, columns: int) -> NDArray[np.float64]:
        """Draws of shape (rows, columns); a larger matrix holds a smaller one in its corner."""
        sequence = np.random.SeedSequence(self.seed, spawn_key=(*self.key, tensor))
        key = sequence.generate_state(2, np.uint64)
        stream = np.random.Philox(key=key)
        numbers, start = np.random.Generator(stream), stream.state
        drawn = []
        for row in range(
            rows
        ):  # its place in one stream: a new one for each would take longer than its numbers
            start["state"]["counter"][3] = row
            stream.state = start
            drawn.append(law.sample(numbers, columns))
        return np.stack(drawn)
