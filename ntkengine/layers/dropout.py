"""Dropout: its random finite map and its infinite-width rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ntkengine.layer import Part, Position, Site, WithoutTensors
from ntkengine.positions import Needs
from ntkengine.spec import spec
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor


@spec
class Dropout(WithoutTensors):
    """Dropout: `y = m x / keep_rate`, each m 1 with probability keep_rate and 0 otherwise, drawn anew for
    every feature of every sample in every pass.

    Kernels are expectations over the masks: a sample and itself share one, so that coincident entries (the
    same sample at the same position) are divided by keep_rate; all others stay.
    """

    kind: Literal["dropout"] = "dropout"
    keep_rate: Annotated[float, Field(ge=1e-6, le=1.0, strict=True)]
    """Probability that a feature is kept; torch's `p` is 1 minus this."""
    mode: Literal["train", "test"] = "train"
    """`train`: features are dropped; `test`: the identity."""

    is_linear: ClassVar[bool] = True

    def any_weights(self) -> bool:
        return False

    def place(self, at: Position) -> Site:
        return replace(at.site(self, at.shape, at.lengths), random=self._kept() < 1.0)

    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        from torch.nn.functional import dropout

        return dropout(x, 1.0 - self._kept(), training=True) if self._kept() < 1.0 else x

    def needs(self, site: Site, wanted: Needs) -> Needs:
        return wanted

    def rule(self, site: Site, state: KernelState) -> KernelState:
        if self._kept() == 1.0:
            return state
        if state.inputs is not None:
            raise site.unsupported(
                "dropout of the inputs has no infinite-width rule: sums of finitely many dropped numbers are "
                "not Gaussian",
                'put it after a layer with weights, or use mode "test"',
            )
        share = 1.0 / self._kept()
        return replace(
            state,
            nngp=replace(state.nngp, values=self._dropped(state, state.nngp.values, share)),
            ntk=replace(state.ntk, values=self._dropped(state, state.ntk.values, share)),
            gaussian=False,
            cumulants=None,
            det=self._determinant(state, share),
        )

    def _kept(self) -> float:
        return {"train": self.keep_rate, "test": 1.0}[self.mode]

    def _dropped(self, state: KernelState, values: tuple[Tensor, ...], share: float) -> tuple[Tensor, ...]:
        """Moments on the pairs, which coincide only where x2 is x1, and those of each row with itself."""
        pair, *own = values
        on_pairs = times_coincident(pair, of_rows, share) if state.symmetric else pair
        return (on_pairs, *(times_coincident(each, of_positions, share) for each in own))

    def _determinant(self, state: KernelState, share: float) -> Tensor | None:
        """That of paired rows: their variances grow."""
        if state.det is None:
            return None
        first, second = state.variances()
        return state.det + first * second * (share**2 - 1.0)


def times_coincident(moment: Tensor, places: Callable[[Tensor], Tensor], share: float) -> Tensor:
    """The moment with the entries at those places, of which they are a view, times a constant."""
    result = moment.clone()
    places(result).mul_(share)
    return result


def of_rows(moment: Tensor) -> Tensor:
    """The entries (i, i), or (i, i, p, p), of moments between rows."""
    places = moment.diagonal(dim1=0, dim2=1)
    return places.diagonal(dim1=0, dim2=1) if moment.ndim == 4 else places


def of_positions(moment: Tensor) -> Tensor:
    """The entries (i), (i, p) or (i, p, p) of moments of each row with itself."""
    return moment.diagonal(dim1=1, dim2=2) if moment.ndim == 3 else moment
