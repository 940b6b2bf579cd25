"""How errors decay in time: gradient flow, discrete steps, momentum. Torch-free to validate.

Under a constant kernel `Theta = U diag(l) U^T` and a squared loss every mode `j` evolves by itself:
`u_j^T (f - y)` is multiplied by `decay(l_j, t)`, and elsewhere
`f(x, t) = f(x, 0) - sum_j Theta(x, X) u_j gain(l_j, t) u_j^T (f(X, 0) - y)`, `gain = (1 - decay) / l`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from ntkengine.losses import AnyLoss, HalfSum
from ntkengine.spec import NonNegativeInt, Positive, spec

if TYPE_CHECKING:
    from torch import Tensor

LATEST = 1e30
MOST_TIMES = 10_000


def parse_time(value: Any) -> float:
    """A time: a number that is not negative, or "inf"."""
    infinite = value in ("inf", math.inf)
    number = not isinstance(value, bool | str) and hasattr(value, "__float__")
    if not (infinite or (number and 0 <= float(value) <= LATEST)):
        raise PydanticCustomError("time", 'a time is a number from 0 to 1e30, or "inf"')
    return float(value)


def dump_time(value: float) -> Any:
    """The JSON form of a time."""
    return value if math.isfinite(value) else "inf"


Time = Annotated[
    Any,
    BeforeValidator(parse_time),
    PlainSerializer(dump_time),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": LATEST}, {"const": "inf"}]}),
]
Times = Annotated[tuple[Time, ...], Field(min_length=1, max_length=MOST_TIMES)]
StepCount = Annotated[NonNegativeInt, Field(le=10**12)]
Steps = Annotated[tuple[StepCount, ...], Field(min_length=1, max_length=MOST_TIMES)]
Momentum = Annotated[float, Field(strict=True, ge=0.0, lt=1.0)]


class Evolution(ABC):
    """What happens to a mode, at every moment that was asked for (T of them)."""

    kind: str
    loss: AnyLoss

    @property
    @abstractmethod
    def moments(self) -> tuple[float, ...]:
        """The times, or the numbers of steps, in the order of the results."""

    @property
    def time_per_step(self) -> float | None:
        """Units of the flow's time in a step; None where there are no steps."""
        return None

    @property
    def largest_rate(self) -> float:
        """The rate `l` from which on a mode grows instead of decaying."""
        return math.inf

    @abstractmethod
    def decay(self, rates: Tensor) -> Tensor:
        """What is left of each mode, (T, r) for rates (r,); at t = inf that of a rate above 0."""

    @abstractmethod
    def gain(self, rates: Tensor) -> Tensor:
        """`(1 - decay) / rate`, (T, r), without cancellation, and its limit at rate 0 at finite times."""


@spec
class Flow(Evolution):
    """Gradient flow, `df/dt = -Theta dL/df`: `decay = e^(-l t)`."""

    kind: Literal["gradient_flow"] = "gradient_flow"
    times: Times
    """Times of prediction; "inf" is the end of training."""
    loss: AnyLoss = Field(default_factory=HalfSum)
    """Loss, which fixes the unit of time."""

    @property
    def moments(self) -> tuple[float, ...]:
        return self.times

    def decay(self, rates: Tensor) -> Tensor:
        t = column(self.times, rates)
        return (-rates * t).exp().where(t.isfinite(), (rates <= 0).to(rates))

    def gain(self, rates: Tensor) -> Tensor:
        t = column(self.times, rates)
        positive = rates > 0
        safe = rates.where(positive, rates.new_ones(()))
        return (-(-safe * t).expm1() / safe).where(positive, t)


@spec
class Descent(Evolution):
    """Gradient descent, `f_(i+1) = f_i - eta Theta dL/df`, exactly: `decay = (1 - eta l)^i`, and with
    momentum `v_(i+1) = beta v_i + dL/dtheta, theta_(i+1) = theta_i - eta v_(i+1)` (torch's SGD)."""

    kind: Literal["gradient_descent"] = "gradient_descent"
    learning_rate: Positive
    """Step size eta, in the loss's own unit."""
    steps: Steps
    """Numbers of steps after which to predict."""
    momentum: Momentum = 0.0
    """The factor beta on the last step."""
    loss: AnyLoss = Field(default_factory=HalfSum)
    """Loss, which fixes the unit of the learning rate."""

    @property
    def moments(self) -> tuple[float, ...]:
        return tuple(float(step) for step in self.steps)

    @property
    def time_per_step(self) -> float:
        return self.learning_rate / (1.0 - self.momentum)

    @property
    def largest_rate(self) -> float:
        return 2.0 * (1.0 + self.momentum) / self.learning_rate

    def decay(self, rates: Tensor) -> Tensor:
        return 1.0 - rates * self.gain(rates) if self.momentum else self._power(rates)

    def gain(self, rates: Tensor) -> Tensor:
        return self._recurrence(rates) if self.momentum else self._sum(rates)

    def _power(self, rates: Tensor) -> Tensor:
        count = column(self.moments, rates)
        step = self.learning_rate * rates
        near = (count * (-step.clamp(max=0.5)).log1p()).exp()  # of 1 - step the first digits are lost
        return near.where(step < 0.5, (1.0 - step) ** count)

    def _sum(self, rates: Tensor) -> Tensor:
        count = column(self.moments, rates)
        step = self.learning_rate * rates
        positive = rates > 0
        safe = rates.where(positive, rates.new_ones(()))
        near = -(count * (-step.clamp(max=0.5)).log1p()).expm1()
        return (near.where(step < 0.5, 1.0 - (1.0 - step) ** count) / safe).where(
            positive, self.learning_rate * count
        )

    def _recurrence(self, rates: Tensor) -> Tensor:
        """The first entry of `A^i (0, 0, 1)`: A takes (gain, eta * velocity, 1) one step on."""
        import torch

        step, eta, beta = self.learning_rate * rates, self.learning_rate, self.momentum
        one, zero = torch.ones_like(rates), torch.zeros_like(rates)
        entries = [1 - step, beta * one, eta * one, -step, beta * one, eta * one, zero, zero, one]
        A = torch.stack(entries, -1).reshape(-1, 3, 3)
        return torch.stack([torch.linalg.matrix_power(A, count)[:, 0, 2] for count in self.steps])


@spec
class MomentumFlow(Evolution):
    """The flow that gradient descent with momentum follows, in the time of steps:
    `f'' + (1 - beta) f' = -eta Theta dL/df`, from rest."""

    kind: Literal["momentum_flow"] = "momentum_flow"
    learning_rate: Positive
    """Step size eta, in the loss's own unit."""
    momentum: Momentum
    """The factor beta on the last step."""
    times: Times
    """Numbers of steps, fractions too, after which to predict; "inf" is the end of training."""
    loss: AnyLoss = Field(default_factory=HalfSum)
    """Loss, which fixes the unit of the learning rate."""

    @property
    def moments(self) -> tuple[float, ...]:
        return self.times

    @property
    def time_per_step(self) -> float:
        return self.learning_rate / (1.0 - self.momentum)

    def decay(self, rates: Tensor) -> Tensor:
        import torch

        one, zero = torch.ones_like(rates), torch.zeros_like(rates)
        entries = [zero, one, -self.learning_rate * rates, (self.momentum - 1) * one]
        A = torch.stack(entries, -1).reshape(-1, 2, 2)
        return torch.stack([self._at(A, t)[:, 0, 0] if math.isfinite(t) else zero for t in self.times])

    def gain(self, rates: Tensor) -> Tensor:
        import torch

        one, zero = torch.ones_like(rates), torch.zeros_like(rates)
        eta = self.learning_rate
        entries = [zero, one, zero, -eta * rates, (self.momentum - 1) * one, eta * one, zero, zero, zero]
        A = torch.stack(entries, -1).reshape(-1, 3, 3)
        ends = 1.0 / rates
        return torch.stack([self._at(A, t)[:, 0, 2] if math.isfinite(t) else ends for t in self.times])

    @staticmethod
    def _at(A: Tensor, t: float) -> Tensor:
        import torch

        power: Tensor = torch.linalg.matrix_exp(A * t)
        return power


def column(moments: tuple[float, ...], like: Tensor) -> Tensor:
    """The moments as (T, 1)."""
    return like.new_tensor(moments)[:, None]
