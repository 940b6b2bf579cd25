"""Normalisation of features: layer norm and root-mean-square norm, without learned scale or shift."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, final

from pydantic import Field

from ntkengine.errors import SpecError, pointer_of
from ntkengine.joint import CumulantRule
from ntkengine.layer import FixedMap, Part, Position, Site
from ntkengine.positions import Extent, Needs, equal_positions
from ntkengine.spec import Positive, spec
from ntkengine.state import Cumulants, KernelState

if TYPE_CHECKING:
    from torch import Tensor

Axis = Annotated[int, Field(ge=-16, le=16, strict=True)]


@spec
class Normalization(FixedMap):
    """`y = u / sqrt(mean(u^2) + eps)`, the mean over some axes of each sample; subclasses say what u is.

    As the number of channels grows, the mean over them becomes the variance q of a feature, and over other
    axes the mean of those: `nngp' = nngp / sqrt((q1 + eps)(q2 + eps))`, `ntk'` likewise. The derivative of
    the divisor, which falls as 1/N, has no part in it.
    """

    axis: Axis | tuple[Axis, ...] = Field(
        default=-1,
        description="Axes of the mean, counted with the batch axis first: -1, the channels; [1, 2, 3], all "
        "of an image. Other axes, such as positions, keep a divisor of their own.",
    )
    eps: Positive = Field(default=1e-12, description="Added to the variance.")

    @abstractmethod
    def numerator(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        """u, of features x and for the mean over those axes."""

    @abstractmethod
    def check_mean(self, site: Site, state: KernelState) -> None:
        """Refuses random features of whose mean u depends in an unknown way.

        Raises:
            UnsupportedError: they are such.
        """

    @final
    def place(self, at: Position) -> Site:
        axes, count = self._axes(at.shape), len(at.shape) + 1
        if not axes or len(set(axes)) < len(axes) or not set(axes) <= set(range(1, count)):
            raise SpecError(
                f"{at.path}: axis {self.axis} is not some of the axes 1 to {count - 1} of an input "
                f"(n, {', '.join(map(str, at.shape))}), each once",
                pointer=f"{pointer_of(at.path)}/axis",
                hint="use -1, the channels, or a list; axis 0, the batch, cannot be normalised over",
            )
        return Site(layer=self, path=at.path, in_shape=at.shape, out_shape=at.shape)

    @final
    def apply(self, site: Site, params: Mapping[str, Tensor], x: Tensor, parts: tuple[Part, ...]) -> Tensor:
        axes = self._axes(site.in_shape)
        u = self.numerator(x, axes)
        return u / ((u * u).mean(axes, keepdim=True) + self.eps).sqrt()

    @final
    def needs(self, site: Site, wanted: Needs) -> Needs:
        return wanted.and_those_of(Needs(Extent.DIAGONAL, Extent.DIAGONAL))

    @final
    def moments(self, site: Site, state: KernelState) -> KernelState:
        if len(site.in_shape) not in self._axes(site.in_shape):
            raise site.unsupported(
                f"the mean over axis {self.axis}, without the channels, stays random in the limit",
                "add the channel axis, -1, to axis, or ask for the empirical kernel",
            )
        if state.nngp.power != 0:
            raise site.unsupported(
                f"the inputs of {self.kind} scale as N^{state.nngp.power / 2}, so that its limit is trivial",
                "normalise before the read-out, or use a parameterization that keeps them O(1)",
            )
        self.check_mean(site, state)
        return times_rows(state, (self._mean_squares(site, state) + self.eps).rsqrt())

    def _axes(self, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """The axes, counted from the batch axis, 0; out of range where they were."""
        given = (self.axis,) if isinstance(self.axis, int) else self.axis
        return tuple(axis + len(shape) + 1 if axis < 0 else axis for axis in given)

    def _mean_squares(self, site: Site, state: KernelState) -> Tensor:
        """`E[h^2]` of each row (n,), or of its positions (n, P), averaged over the axes of the mean."""
        own = state.nngp.own[0]
        squares = equal_positions(own) if own.ndim == 3 else own
        spatial = [axis for axis in site.in_shape[:-1] if axis is not None]
        averaged = [axis for axis in self._axes(site.in_shape) if axis <= len(spatial)]
        if not averaged:
            return squares
        by_axes = squares.reshape(-1, *spatial)
        return by_axes.mean(averaged, keepdim=True).expand_as(by_axes).reshape(squares.shape)


@spec
class LayerNorm(Normalization):
    """Layer norm: `y = (x - mean(x)) / sqrt(var(x) + eps)`, with the biased variance over some axes.

    The infinite-width rule needs features with mean 0, such as those of a layer with weights: there the mean
    that is subtracted vanishes in the limit. Learned scale and shift are not part of it (Ba et al. 2016 have
    them).
    """

    kind: Literal["layer_norm"] = "layer_norm"

    def numerator(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        return x - x.mean(axes, keepdim=True)

    def check_mean(self, site: Site, state: KernelState) -> None:
        if not state.gaussian and state.cumulants is None:
            raise site.unsupported(
                "layer_norm acts on features whose mean may not be 0, such as those of an activation, and "
                "second moments do not say what remains once it is subtracted",
                "put it after a layer with weights and before the activation, or use rms_norm",
            )


@spec
class RMSNorm(Normalization):
    """Root-mean-square norm: `y = x / sqrt(mean(x^2) + eps)` over some axes (Zhang and Sennrich 2019)."""

    kind: Literal["rms_norm"] = "rms_norm"

    def numerator(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        return x

    def check_mean(self, site: Site, state: KernelState) -> None:
        """Any features: nothing is subtracted."""


def times_rows(state: KernelState, factors: Tensor) -> KernelState:
    """The state of features times a factor for each row (n,), or for each of its positions (n, P)."""
    pair, own = state.nngp.values
    rows, columns = pair.shape[0], pair.shape[0 if state.paired else 1]
    first, second = factors[:rows], factors[len(factors) - columns :]
    if state.extents.between is Extent.FULL:
        first, second = first[..., :, None], second[..., None, :]
    if not state.paired:
        first, second = first[:, None], second[None]
    left, right = (factors[..., :, None], factors[..., None, :]) if own.ndim == 3 else (factors, factors)
    on_pairs = first * second
    cumulants = state.cumulants and Cumulants(
        scaled(state.cumulants.pair, first, second), scaled(state.cumulants.own, left, right)
    )
    return replace(
        state,
        nngp=replace(state.nngp, values=(pair * on_pairs, own * (left * right))),
        ntk=replace(state.ntk, values=(state.ntk.pair * on_pairs,)),
        inputs=None,
        cumulants=cumulants,
        det=None if state.det is None else state.det * on_pairs**2,
    )


def scaled(cumulant: CumulantRule, left: Tensor, right: Tensor) -> CumulantRule:
    """The cumulants of `left z` and `right z'`."""
    return lambda i, j: cumulant(i, j) * left**i * right**j
