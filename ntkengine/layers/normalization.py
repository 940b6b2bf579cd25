"""Normalisation of features: layer norm and root-mean-square norm, without learned scale or shift."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, final

from pydantic import Field

from ntkengine.errors import SpecError, pointer_of
from ntkengine.layer import FixedMap, Part, Position, Site
from ntkengine.positions import Extent, Needs, equal_positions
from ntkengine.spec import Positive, spec
from ntkengine.state import KernelState

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
    def numerator(self, x: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        """u, of features x and for that mean over the axes."""

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
        return at.site(self, at.shape, at.lengths)

    @final
    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        axes, present = self._axes(site.in_shape), site.present(lengths)

        def mean(values: Tensor) -> Tensor:
            return mean_over(values, axes, None if present is None else present[..., None])

        u = self.numerator(x, mean)
        return u / (mean(u * u) + self.eps).sqrt()

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
        return state.times_rows((self._mean_squares(site, state) + self.eps).rsqrt())

    def _axes(self, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """The axes, counted from the batch axis, 0; out of range where they were."""
        given = (self.axis,) if isinstance(self.axis, int) else self.axis
        return tuple(axis + len(shape) + 1 if axis < 0 else axis for axis in given)

    def _mean_squares(self, site: Site, state: KernelState) -> Tensor:
        """`E[h^2]` of each row (n,), or of its positions (n, P), averaged over the axes of the mean."""
        own = state.nngp.own[0]
        squares = equal_positions(own) if own.ndim == 3 else own
        spatial = [axis for axis in site.in_shape[:-1] if axis is not None]
        averaged = tuple(axis for axis in self._axes(site.in_shape) if axis <= len(spatial))
        if not averaged:
            return squares
        by_axes = squares.reshape(-1, *spatial)
        return (
            mean_over(by_axes, averaged, state.present(site.in_lengths))
            .expand_as(by_axes)
            .reshape(squares.shape)
        )


@spec
class LayerNorm(Normalization):
    """Layer norm: `y = (x - mean(x)) / sqrt(var(x) + eps)`, with the biased variance over some axes.

    The infinite-width rule needs features with mean 0, such as those of a layer with weights: there the mean
    that is subtracted vanishes in the limit. Learned scale and shift are not part of it (Ba et al. 2016 have
    them).
    """

    kind: Literal["layer_norm"] = "layer_norm"

    def numerator(self, x: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        return x - mean(x)

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

    def numerator(self, x: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        return x

    def check_mean(self, site: Site, state: KernelState) -> None:
        """Any features: nothing is subtracted."""


def mean_over(values: Tensor, axes: tuple[int, ...], present: Tensor | None) -> Tensor:
    """The mean over some axes of the values that are there, which keeps these axes; 0 where none is."""
    if present is None:
        return values.mean(axes, keepdim=True)
    there = present.to(values)
    share = there.mean(axes, keepdim=True)
    return (values * there).mean(axes, keepdim=True) / share.where(share > 0, 1.0)
