"""How weights move, as data. Torch-free."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

from pydantic import Field

from ntkengine.dynamics.losses import AnyLoss, HalfSum
from ntkengine.dynamics.schedules import Axis
from ntkengine.errors import SpecError
from ntkengine.layer import Site
from ntkengine.model import Model
from ntkengine.spec import Count, NonNegative, NonNegativeInt, Positive, spec
from ntkengine.weights import Weights, escaped, some

if TYPE_CHECKING:
    from ntkengine.network import Network

Fraction = Annotated[float, Field(ge=0.0, lt=1.0, strict=True)]


@spec
class Stop:
    """When to stop before the end."""

    loss_below: NonNegative
    """Stop, as converged, once the training loss is below this."""


class Training(ABC):
    """How the weights move."""

    kind: str
    loss: AnyLoss
    stop: Stop | None
    learning_rates: dict[str, Positive] | None
    table_for: ClassVar[str]  # the optimiser whose learning rates muP has to be given for

    @property
    def time_per_step(self) -> float | None:
        """Units of time in a step; None where steps have none, or where there are no steps."""
        return None

    @property
    def has_no_time(self) -> bool:
        """Whether there are steps, but no unit of time in which they could be measured."""
        return self.axis().discrete and self.time_per_step is None

    @abstractmethod
    def axis(self) -> Axis:
        """The positions of the run."""

    @abstractmethod
    def evaluations(self, m: int) -> float:
        """Estimated number of gradients over m training points."""

    @abstractmethod
    def place(self, model: Model, in_shape: tuple[int, ...]) -> Site:
        """The layers of the network that is trained, in their places."""

    @abstractmethod
    def network(
        self, model: Model, in_shape: tuple[int, ...], *, seed: int, weights: Weights | None
    ) -> Network:
        """The network that is trained, at its start."""

    def factor(self, name: str) -> float:
        """Factor on the learning rate of a tensor, by the longest name that fits; a twin has its body's."""
        name = name.removeprefix("twin.")
        found = [part for part in self.learning_rates or {} if name == part or name.startswith(f"{part}.")]
        return (self.learning_rates or {})[max(found, key=len)] if found else 1.0

    def check(self, tensors: Mapping[str, Any]) -> None:
        """Raise a SpecError where a learning rate is for no trained tensor of that name."""
        for part in self.learning_rates or {}:
            if not any(name == part or name.startswith(f"{part}.") for name in tensors):
                raise SpecError(
                    f"no tensor or layer with weights is called {part}",
                    pointer=f"/learning_rates/{escaped(part)}",
                    hint=f"the network has {some(list(tensors))}",
                )


class OfNetworks(Training):
    """Training of a model's finite network."""

    @final
    def place(self, model: Model, in_shape: tuple[int, ...]) -> Site:
        return model.check_finite(in_shape)

    @final
    def network(
        self, model: Model, in_shape: tuple[int, ...], *, seed: int, weights: Weights | None
    ) -> Network:
        return model.network(in_shape, seed=seed, weights=weights)


class Stepwise(OfNetworks):
    """Training by steps."""

    learning_rate: float
    steps: int
    batch_size: int | None
    batch_seed: int

    def axis(self) -> Axis:
        return Axis(float(self.steps), discrete=True)

    def evaluations(self, m: int) -> float:
        share = min(self.batch_size or m, m) / m
        return float(self.steps) * (share if self.stop is None else share + (share < 1))


@spec
class GradientDescent(Stepwise):
    """Gradient descent, as `torch.optim.SGD`: with `g = grad L + weight_decay * theta` and the buffer
    `b <- momentum * b + g`, which starts at 0, `theta <- theta - learning_rate N^-c b`.

    A step advances the time of gradient flow by `learning_rate / (1 - momentum)`: the effective time, which
    holds once the buffer is filled, after about 1 / (1 - momentum) steps.
    """

    table_for: ClassVar[str] = "sgd"
    kind: Literal["gradient_descent"] = "gradient_descent"
    learning_rate: Positive
    """Step size."""
    steps: Count
    """Number of steps."""
    batch_size: Count | None = None
    """Points in a step, in a new order each epoch, the same for all members; all points by default. The loss
    of a step is that of its points: `half_sum` is not rescaled."""
    batch_seed: NonNegativeInt = 0
    """Seed of the order."""
    momentum: Fraction = 0.0
    """Share of the buffer that stays from step to step."""
    weight_decay: NonNegative = 0.0
    """`weight_decay * theta` is added to the gradient (L2 penalty); the recorded loss is without it."""
    learning_rates: dict[str, Positive] | None = None
    """Factors on the learning rate by tensor, `layers.0.W`, or layer, `layers.0`; the longer name wins."""
    loss: AnyLoss = Field(default_factory=HalfSum)
    """Loss, which fixes the unit of time."""
    stop: Stop | None = None
    """When to stop before the end."""

    @property
    def time_per_step(self) -> float:
        return self.learning_rate / (1.0 - self.momentum)


@spec
class Adam(Stepwise):
    """Adam, as `torch.optim.Adam`: with `g = grad L + weight_decay * theta`, running means
    `m <- beta1 m + (1 - beta1) g` and `v <- beta2 v + (1 - beta2) g^2`, both from 0, step t = 1, 2, ... is
    `theta <- theta - learning_rate N^-c (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)`.

    Its steps have no time of gradient flow: positions are steps.

    Source: Kingma and Ba (2015), algorithm 1.
    """

    table_for: ClassVar[str] = "adam"
    kind: Literal["adam"] = "adam"
    learning_rate: Positive = 1e-3
    """Step size."""
    steps: Count
    """Number of steps."""
    beta1: Fraction = 0.9
    """Share of the mean gradient that stays from step to step."""
    beta2: Fraction = 0.999
    """Share of the mean square that stays from step to step."""
    eps: Positive = 1e-8
    """Added to the root of the mean square."""
    batch_size: Count | None = None
    """Points in a step, in a new order each epoch, the same for all members; all points by default."""
    batch_seed: NonNegativeInt = 0
    """Seed of the order."""
    weight_decay: NonNegative = 0.0
    """`weight_decay * theta` is added to the gradient; the recorded loss does not contain it."""
    learning_rates: dict[str, Positive] | None = None
    """Factors on the learning rate by tensor, `layers.0.W`, or layer, `layers.0`; the longer name wins."""
    loss: AnyLoss = Field(default_factory=HalfSum)
    """Loss."""
    stop: Stop | None = None
    """When to stop before the end."""


@spec
class GradientFlow(OfNetworks):
    """Gradient flow `d theta / dt = -N^-c grad L`, by the adaptive DOP853 method of order 8.

    Several members share the solver's steps, which the member with the largest error sets.
    """

    table_for: ClassVar[str] = "sgd"
    kind: Literal["gradient_flow"] = "gradient_flow"
    t_end: Positive
    """Time at which to stop."""
    rtol: Annotated[float, Field(strict=True, ge=1e-13, le=1e-2)] = 1e-8
    """Relative tolerance of a step."""
    atol: Annotated[float, Field(strict=True, gt=0, le=1e-2)] = 1e-10
    """Absolute tolerance of a step."""
    learning_rates: dict[str, Positive] | None = None
    """Factors on the learning rate by tensor, `layers.0.W`, or layer, `layers.0`; the longer name wins."""
    loss: AnyLoss = Field(default_factory=HalfSum)
    """Loss, which fixes the unit of time."""
    stop: Stop | None = None
    """When to stop before the end."""

    def axis(self) -> Axis:
        return Axis(self.t_end, discrete=False)

    def evaluations(self, m: int) -> float:
        return 300.0  # at rtol 1e-8 on well-conditioned data; a stiff problem takes many more
