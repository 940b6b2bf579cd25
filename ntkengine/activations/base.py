"""The abstract activation: an elementwise function, and its dual under a joint law of two inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, final

from ntkengine.activations.near import determinant_after
from ntkengine.errors import NumericalError, UnsupportedError, pointer_of
from ntkengine.joint import Joint
from ntkengine.layer import FixedMap, Part, Position, Site
from ntkengine.positions import Extent, Needs
from ntkengine.state import Dual, KernelState, Method

if TYPE_CHECKING:
    from torch import Tensor


class Activation(FixedMap):
    """An elementwise function s. Subclasses state the function and its dual."""

    any_law: ClassVar[bool] = False  # whether the dual holds for any joint law, not for Gaussian ones alone
    method: ClassVar[Method] = "closed_form"  # of the dual

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

    @final
    def place(self, at: Position) -> Site:
        return Site(layer=self, path=at.path, in_shape=at.shape, out_shape=at.shape)

    @final
    def apply(self, site: Site, params: Mapping[str, Tensor], x: Tensor, parts: tuple[Part, ...]) -> Tensor:
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
        if state.cumulants is not None and not self.any_law:
            raise site.unsupported(
                f"{self.kind} has an exact infinite-width rule for normal laws only, "
                "and the layer before it draws from another law",
                'use {"kind": "normal"} laws of the same variance there, a polynomial activation, '
                "or the empirical kernel of a wide network",
            )
        if state.cumulants is None and not state.gaussian:
            raise site.unsupported(
                f"{self.kind} acts on features that are not Gaussian, such as those of another activation",
                "put a layer with weights, such as dense, in between",
            )
        try:
            after = state.elementwise(self.dual, self.method)
            if state.det is None:
                return after
            return replace(after, det=determinant_after(self.function, self.dual, state.joints()[0]))
        except UnsupportedError as error:
            if error.pointer is not None:  # a layer's own
                raise
            raise site.unsupported(str(error), error.hint or "") from None
        except NumericalError as error:
            raise NumericalError(
                f"{site.path}: {error}", pointer=error.pointer or pointer_of(site.path), hint=error.hint
            ) from None
        except NotImplementedError:
            raise site.unsupported(
                f"{self.kind} has no infinite-width rule",
                "use erf, gelu or relu in its place, or ask for the empirical kernel of a finite network",
            ) from None
