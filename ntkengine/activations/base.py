"""The abstract activation: an elementwise function, and its dual under a joint law of two inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, final

from ntkengine.activations.near import determinant_after
from ntkengine.errors import NumericalError, UnsupportedError, pointer_of
from ntkengine.first_layer import Growth, PiecewisePolynomial, Profile, slope_of
from ntkengine.joint import Joint
from ntkengine.layer import FixedMap, Part, Position, Site
from ntkengine.positions import Extent, Needs
from ntkengine.state import Dual, KernelState, Method

if TYPE_CHECKING:
    from torch import Tensor


class Activation(FixedMap):
    """An elementwise function s. Subclasses state the function and its dual."""

    method: ClassVar[Method] = "closed_form"  # of the dual
    from_cumulants: ClassVar[int] = -1  # the highest degree for which the dual holds for any joint law

    @abstractmethod
    def function(self, z: Tensor) -> Tensor:
        """`s(z)`, elementwise.

        Raises:
            NotImplementedError: the dual is that of no such function.
        """

    @abstractmethod
    def dual(self, joint: Joint) -> Dual:
        """`E[s(z) s(z')]` and `E[s'(z) s'(z')]` (the dual activation and its derivative).

        Raises:
            NotImplementedError: there is no closed form.
        """

    @abstractmethod
    def outline(self) -> Growth | PiecewisePolynomial:
        """The pieces of s, if it is a piecewise polynomial; else how fast it grows."""

    @final
    def profile(self) -> Profile:
        """What expectations over a first layer of any law need to know of s."""
        outline = self.outline()
        return Profile(self.function, slope_of(self.function), outline.growth, outline.pieces)

    @final
    def place(self, at: Position) -> Site:
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
        try:
            return self.function(x)
        except NotImplementedError as error:
            raise site.unsupported(
                f"{self.kind} is a kernel without a function, so that no finite network has it",
                "use exp or rbf in its place, or ask for the infinite-width kernel",
            ) from error

    @final
    def needs(self, site: Site, wanted: Needs) -> Needs:
        return wanted if self.is_linear else wanted.and_those_of(Needs(Extent.DIAGONAL, Extent.DIAGONAL))

    @final
    def moments(self, site: Site, state: KernelState) -> KernelState:
        if self.is_linear:
            return state
        if state.nngp.power != 0:
            raise site.unsupported(
                f"the inputs of {self.kind} scale as N^{state.nngp.power / 2}, so that its limit is trivial",
                "move the activation before the read-out, or use a parameterization that keeps them O(1)",
            )
        if state.cumulants is not None and self.outline().growth.order > self.from_cumulants:
            return self._on_first_layer(site, state)
        if state.cumulants is None and not state.gaussian:
            raise site.unsupported(
                f"{self.kind} acts on features that are not Gaussian, such as those of another activation",
                "put a layer with weights, such as dense, in between",
            )
        with self._located(site):
            after = state.elementwise(self.dual, self.method)
            if state.det is None:
                return after
            return replace(after, det=self._determinant(state))

    def _determinant(self, state: KernelState) -> Tensor | None:
        """That of paired rows after it; None where there is no function, whose changes it is made of."""
        pair, _ = state.joints()
        try:
            self.function(pair.q11[:1])
        except NotImplementedError:
            return None
        if state.probed:  # each row with itself, which is so before and after
            return state.det
        return determinant_after(self.function, self.dual, pair)

    def _on_first_layer(self, site: Site, state: KernelState) -> KernelState:
        if state.first is None:
            raise site.unsupported(
                f"{self.kind} has an infinite-width rule for laws that are not normal only behind a dense "
                "layer on the inputs",
                'use {"kind": "normal"} laws of the same variance here, biases included, a polynomial '
                "activation, or the empirical kernel of a wide network",
            )
        with self._located(site):
            self.function(state.first.x1[:1])  # a kernel without a function has no such rule
            return state.after_first_layer(self.profile())

    @contextmanager
    def _located(self, site: Site) -> Iterator[None]:
        """Errors of duals name the layer."""
        try:
            yield
        except (NumericalError, UnsupportedError) as error:
            if error.pointer is not None:  # a layer's own
                raise
            pointer = pointer_of(site.path)
            raise type(error)(f"{site.path}: {error}", pointer=pointer, hint=error.hint) from None
        except NotImplementedError:
            raise site.unsupported(
                f"{self.kind} has no infinite-width rule here",
                "use erf, gelu or relu in its place, or ask for the empirical kernel of a finite network",
            ) from None
