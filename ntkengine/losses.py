"""Losses of outputs f on targets y, each with its derivatives in f. Torch-free to validate.

A loss sums over training points unless its name says mean, so a minibatch of it is not rescaled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal, final

import numpy as np
from pydantic import Field

from ntkengine.errors import SpecError
from ntkengine.spec import spec

if TYPE_CHECKING:
    from torch import Tensor


class Loss(ABC):
    """A number for outputs f (..., m, k) on targets y (m, k), one for each of the leading axes."""

    kind: str

    @abstractmethod
    def rate_factor(self, m: int, k: int) -> float:
        """The factor on every rate that the convention brings, against a plain sum over points."""

    @abstractmethod
    def check(self, y: np.ndarray) -> None:
        """Raise a SpecError where targets (m, k) have no meaning for this loss."""

    @abstractmethod
    def value(self, f: Tensor, y: Tensor) -> Tensor:
        """The losses (...)."""

    @abstractmethod
    def derivative(self, f: Tensor, y: Tensor) -> Tensor:
        """`dL/df` (..., m, k)."""

    @abstractmethod
    def curvature(self, f: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """`sum_b d^2 L / df_a df_b v_b` (..., m, k), point by point."""


class Squared(Loss):
    """`L = rate_factor * 1/2 sum_d sum_a (f_a(x_d) - y_da)^2` over m points and k outputs."""

    @final
    def check(self, y: np.ndarray) -> None:
        """Any numbers will do."""

    @final
    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return 0.5 * self.rate_factor(*f.shape[-2:]) * ((f - y) ** 2).sum((-2, -1))

    @final
    def derivative(self, f: Tensor, y: Tensor) -> Tensor:
        return self.rate_factor(*f.shape[-2:]) * (f - y)

    @final
    def curvature(self, f: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return self.rate_factor(*f.shape[-2:]) * v


@spec
class HalfSum(Squared):
    """`1/2 sum (f - y)^2`: the loss of the theory, with factor 1."""

    kind: Literal["half_sum"] = "half_sum"

    def rate_factor(self, m: int, k: int) -> float:
        return 1.0


@spec
class HalfMean(Squared):
    """`1/2 mean (f - y)^2` over points and outputs: factor 1 / (m k)."""

    kind: Literal["half_mean"] = "half_mean"

    def rate_factor(self, m: int, k: int) -> float:
        return 1.0 / (m * k)


@spec
class Mean(Squared):
    """`mean (f - y)^2` over points and outputs, torch's MSELoss: factor 2 / (m k)."""

    kind: Literal["mean"] = "mean"

    def rate_factor(self, m: int, k: int) -> float:
        return 2.0 / (m * k)


@spec
class CrossEntropy(Loss):
    """`-sum_d sum_a y_da log softmax(f(x_d))_a`, a sum over points, with factor 1.

    Targets are probabilities: rows of numbers that are not negative and add up to 1, one-hot rows among them.
    """

    kind: Literal["cross_entropy"] = "cross_entropy"

    def rate_factor(self, m: int, k: int) -> float:
        return 1.0

    def check(self, y: np.ndarray) -> None:
        if (y < 0).any() or not np.allclose(y.sum(-1), 1.0, rtol=0, atol=1e-9):
            raise SpecError(
                "targets of cross_entropy are rows of probabilities that add up to 1",
                hint="give one-hot rows; for one output with targets 1 and -1 use the logistic loss",
            )

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        return -(y * f.log_softmax(-1)).sum((-2, -1))

    def derivative(self, f: Tensor, y: Tensor) -> Tensor:
        return f.softmax(-1) - y

    def curvature(self, f: Tensor, y: Tensor, v: Tensor) -> Tensor:
        p = f.softmax(-1)
        return p * (v - (p * v).sum(-1, keepdim=True))


@spec
class Logistic(Loss):
    """`sum_d sum_a log(1 + exp(-y_da f_a(x_d)))`, a sum over points and outputs, with factor 1.

    Targets are 1 or -1.
    """

    kind: Literal["logistic"] = "logistic"

    def rate_factor(self, m: int, k: int) -> float:
        return 1.0

    def check(self, y: np.ndarray) -> None:
        if not (np.abs(y) == 1.0).all():
            raise SpecError("targets of the logistic loss are 1 or -1", hint="replace 0 by -1")

    def value(self, f: Tensor, y: Tensor) -> Tensor:
        from torch.nn.functional import softplus

        return softplus(-y * f, threshold=40.0).sum((-2, -1))

    def derivative(self, f: Tensor, y: Tensor) -> Tensor:
        return -y * (-y * f).sigmoid()

    def curvature(self, f: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return f.sigmoid() * (-f).sigmoid() * v


AnyLoss = Annotated[HalfSum | HalfMean | Mean | CrossEntropy | Logistic, Field(discriminator="kind")]
