"""A user's own function as an activation, in Python only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from pydantic import Field, PlainSerializer, model_validator

from ntkengine.activations.numeric import NumericActivation
from ntkengine.errors import SpecError
from ntkengine.first_layer import Growth
from ntkengine.spec import Real, spec

if TYPE_CHECKING:
    from torch import Tensor

PYTHON_ONLY = "elementwise holds a Python function: it can be used from Python only, and has no JSON"


def refuse(function: Any) -> NoReturn:
    """No JSON from a function."""
    raise SpecError(f"{PYTHON_ONLY}: {function!r}", hint="use an activation of a built-in kind")


Pointwise = Annotated[Callable[[Any], Any], PlainSerializer(refuse, return_type=Any)]


@spec
class Elementwise(NumericActivation):
    """A function of your own: `fn(z)`, elementwise, made of torch operations.

    It is for Python only: there is no JSON for it.

    >>> import torch
    >>> from ntkengine import Dense, Model, infinite_kernel
    >>> model = Model(layers=(Dense(), Elementwise(fn=torch.cos), Dense(width=1)))
    >>> kernel = infinite_kernel(model, torch.ones(1, 2, dtype=torch.float64))
    >>> print(f"{kernel.nngp.item():.12f}")  # (1 + exp(-2)) / 2
    0.567667641618
    """

    kind: Literal["elementwise"] = "elementwise"
    fn: Pointwise
    """The function, from a tensor to one of its shape."""
    fn_derivative: Pointwise | None = None
    """Its derivative, likewise; by automatic differentiation if left out."""
    order: Annotated[int, Field(ge=0, le=100, strict=True)] = 1
    """A power of z that bounds its growth, for first layers whose laws have heavy tails."""
    kinks: tuple[Real, ...] = ()
    """Where the function or its derivative jumps, as far as you know; others are found, at some cost."""

    @model_validator(mode="before")
    @classmethod
    def not_from_json(cls, value: Any) -> Any:
        """Only the constructor makes one."""
        if isinstance(value, Mapping):
            # pydantic collects ValueErrors, and no others
            raise ValueError(f"{PYTHON_ONLY}; use an activation of a built-in kind")  # noqa: TRY004
        return value

    def outline(self) -> Growth:
        return Growth(order=self.order)

    def function(self, z: Tensor) -> Tensor:
        result: Tensor = self.fn(z)
        return result

    def derivative(self, z: Tensor) -> Tensor:
        import torch

        if self.fn_derivative is not None:
            given: Tensor = self.fn_derivative(z)
            return given
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            value = self.fn(at)
            if not value.requires_grad:  # constant
                return torch.zeros_like(z)
            return torch.autograd.grad(value.sum(), at)[0]

    def kinked_at(self) -> tuple[float, ...]:
        return self.kinks
