"""The abstract activation: an elementwise function, and its dual under a joint law of two inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from ntkengine.activations.moments import Coefficients, polynomial_dual
from ntkengine.layer import Layer, Part, Position, Site
from ntkengine.state import Dual, Joint, KernelState

if TYPE_CHECKING:
    from torch import Tensor


class Activation(Layer):
    """An elementwise function s. Subclasses state `function`, and `dual` or `polynomial`."""

    @abstractmethod
    def function(self, z: Tensor) -> Tensor:
        """`s(z)`, elementwise.

        Raises:
            NotImplementedError: the dual is that of no such function.
        """

    def dual(self, joint: Joint) -> Dual:
        """`E[s(z) s(z')]` and `E[s'(z) s'(z')]` for a Gaussian pair (the dual activation).

        Raises:
            NotImplementedError: s has no closed form here.
        """
        raise NotImplementedError

    def polynomial(self) -> Coefficients | None:
        """Coefficients of 1, z, z^2, ... where s is a polynomial: its dual is then exact for any law."""
        return None

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
    def rule(self, site: Site, state: KernelState) -> KernelState:
        if state.nngp.power != 0:
            raise site.unsupported(
                f"the inputs of {self.kind} scale as N^{state.nngp.power / 2}, so that its limit is trivial",
                "move the activation before the read-out, or use a parameterization that keeps them O(1)",
            )
        coefficients = self.polynomial()
        if coefficients is not None:
            return state.elementwise(lambda joint: polynomial_dual(coefficients, joint), exact_moments=True)
        if state.cumulants is not None:
            raise site.unsupported(
                f"{self.kind} has an exact infinite-width rule for normal laws only, "
                "and the layer before it draws from another law",
                'use {"kind": "normal"} laws of the same variance there, a polynomial activation, '
                "or the empirical kernel of a wide network",
            )
        try:
            return state.elementwise(self.dual, exact_moments=False)
        except NotImplementedError:
            raise site.unsupported(
                f"{self.kind} has no infinite-width rule",
                "use erf, gelu or relu in its place, or ask for the empirical kernel of a finite network",
            ) from None
