"""Losses, each with its derivative and the factor that its convention puts on every rate. Torch-free."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ntkengine.spec import spec

if TYPE_CHECKING:
    from torch import Tensor


class Loss(ABC):
    """`L = rate_factor * 1/2 sum_d sum_a (f_a(x_d) - y_da)^2` over m points and k outputs."""

    @abstractmethod
    def rate_factor(self, m: int, k: int) -> float:
        """The factor on every rate, against `half_sum`."""

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        """The losses (...) of outputs f (..., m, k) on targets y (m, k)."""
        return 0.5 * self.rate_factor(*f.shape[-2:]) * ((f - y) ** 2).sum((-2, -1))

    def derivative(self, f: Tensor, y: Tensor) -> Tensor:
        """`dL/df` (..., m, k)."""
        return self.rate_factor(*f.shape[-2:]) * (f - y)


@spec
class HalfSum(Loss):
    """`1/2 sum (f - y)^2`: the loss of the theory, with factor 1."""

    kind: Literal["half_sum"] = "half_sum"

    def rate_factor(self, m: int, k: int) -> float:
        return 1.0


@spec
class HalfMean(Loss):
    """`1/2 mean (f - y)^2` over points and outputs: factor 1 / (m k)."""

    kind: Literal["half_mean"] = "half_mean"

    def rate_factor(self, m: int, k: int) -> float:
        return 1.0 / (m * k)


@spec
class Mean(Loss):
    """`mean (f - y)^2` over points and outputs, torch's MSELoss: factor 2 / (m k)."""

    kind: Literal["mean"] = "mean"

    def rate_factor(self, m: int, k: int) -> float:
        return 2.0 / (m * k)


AnyLoss = Annotated[HalfSum | HalfMean | Mean, Field(discriminator="kind")]
