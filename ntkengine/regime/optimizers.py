"""The optimisers of torch as data, their options named as torch names them. Torch-free to validate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from ntkengine.errors import SpecError
from ntkengine.spec import NonNegative, Positive, spec

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

Share = Annotated[float, Field(ge=0.0, lt=1.0, strict=True)]


class TorchOptimizer:
    """An optimiser: every field but `kind` is an argument of torch's."""

    name: ClassVar[str]

    def __call__(self, parameters: Iterable[Tensor]) -> Optimizer:
        """One for those parameters."""
        import torch

        options: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        options.pop("kind")
        found: Optimizer = getattr(torch.optim, self.name)(parameters, **options)
        return found

    def check(self) -> None:
        """Raise a SpecError where options contradict each other."""


@spec
class Sgd(TorchOptimizer):
    """`torch.optim.SGD`."""

    name: ClassVar[str] = "SGD"
    kind: Literal["sgd"] = "sgd"
    lr: Positive
    """Step size."""
    momentum: Share = 0.0
    """Share of the buffer that stays from step to step."""
    dampening: Share = 0.0
    """By how much less than 1 a gradient enters the buffer."""
    nesterov: bool = False
    """Whether the gradient is taken ahead (Nesterov)."""
    weight_decay: NonNegative = 0.0
    """`weight_decay * theta` is added to the gradient."""

    def check(self) -> None:
        if self.nesterov and (not self.momentum or self.dampening):
            raise SpecError(
                "nesterov needs momentum, and no dampening",
                pointer="/nesterov",
                hint='give "momentum": 0.9, or leave nesterov out',
            )


@spec
class TorchAdam(TorchOptimizer):
    """`torch.optim.Adam`."""

    name: ClassVar[str] = "Adam"
    kind: Literal["adam"] = "adam"
    lr: Positive = 1e-3
    """Step size."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Shares of the mean gradient and of the mean square that stay."""
    eps: Positive = 1e-8
    """Added to the root of the mean square."""
    weight_decay: NonNegative = 0.0
    """`weight_decay * theta` is added to the gradient."""
    amsgrad: bool = False
    """Whether the largest mean square so far is used."""


@spec
class TorchAdamW(TorchOptimizer):
    """`torch.optim.AdamW`: Adam with decoupled weight decay."""

    name: ClassVar[str] = "AdamW"
    kind: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    """Step size."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Shares of the mean gradient and of the mean square that stay."""
    eps: Positive = 1e-8
    """Added to the root of the mean square."""
    weight_decay: NonNegative = 1e-2
    """Weights shrink by `lr * weight_decay` of themselves in a step."""
    amsgrad: bool = False
    """Whether the largest mean square so far is used."""


@spec
class RMSprop(TorchOptimizer):
    """`torch.optim.RMSprop`."""

    name: ClassVar[str] = "RMSprop"
    kind: Literal["rmsprop"] = "rmsprop"
    lr: Positive = 1e-2
    """Step size."""
    alpha: Share = 0.99
    """Share of the mean square that stays."""
    eps: Positive = 1e-8
    """Added to the root of the mean square."""
    momentum: Share = 0.0
    """Share of the buffer that stays from step to step."""
    centered: bool = False
    """Whether the square of the mean gradient is subtracted from the mean square."""
    weight_decay: NonNegative = 0.0
    """`weight_decay * theta` is added to the gradient."""


@spec
class Adagrad(TorchOptimizer):
    """`torch.optim.Adagrad`."""

    name: ClassVar[str] = "Adagrad"
    kind: Literal["adagrad"] = "adagrad"
    lr: Positive = 1e-2
    """Step size."""
    lr_decay: NonNegative = 0.0
    """The step size is divided by `1 + lr_decay * (t - 1)` in step t."""
    eps: Positive = 1e-10
    """Added to the root of the sum of squares."""
    weight_decay: NonNegative = 0.0
    """`weight_decay * theta` is added to the gradient."""


AnyOptimizer = Annotated[Sgd | TorchAdam | TorchAdamW | RMSprop | Adagrad, Field(discriminator="kind")]
