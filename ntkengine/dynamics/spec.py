"""A training run as data: what `POST /runs` takes. Torch-free."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from ntkengine.data import ArrayField, ArrayValue, NumbersField, inputs_shape, shape_of
from ntkengine.dynamics.losses import AnyLoss, HalfSum
from ntkengine.dynamics.records import AnyRecord, LossRecord, OutputsRecord, Shapes, Value
from ntkengine.dynamics.schedules import Axis
from ntkengine.empirical.implementation import parameter_count
from ntkengine.errors import SpecError, located
from ntkengine.layer import Site
from ntkengine.model import Model
from ntkengine.spec import Count, NonNegative, NonNegativeInt, Positive, spec
from ntkengine.weights import Weights, check_not_random, check_start

GRADIENT_OVERHEAD = 2e7  # what a gradient costs besides its arithmetic, in flops' worth of time


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

    @property
    def time_per_step(self) -> float | None:
        """Units of time in a step; None where there are no steps."""
        return None

    @abstractmethod
    def axis(self) -> Axis:
        """The positions of the run."""

    @abstractmethod
    def evaluations(self) -> float:
        """Estimated number of gradients."""


@spec
class GradientDescent(Training):
    """Full-batch gradient descent, `theta <- theta - learning_rate N^-c grad L`."""

    kind: Literal["gradient_descent"] = "gradient_descent"
    learning_rate: Positive
    """Step size; a step advances the time of gradient flow by this much."""
    steps: Count
    """Number of steps."""
    loss: AnyLoss = Field(default_factory=HalfSum)
    """Loss, which fixes the unit of time."""
    stop: Stop | None = None
    """When to stop before the end."""

    @property
    def time_per_step(self) -> float:
        return self.learning_rate

    def axis(self) -> Axis:
        return Axis(float(self.steps), discrete=True)

    def evaluations(self) -> float:
        return float(self.steps)


@spec
class GradientFlow(Training):
    """Gradient flow `d theta / dt = -N^-c grad L`, by the adaptive DOP853 method of order 8."""

    kind: Literal["gradient_flow"] = "gradient_flow"
    t_end: Positive
    """Time at which to stop."""
    rtol: Annotated[float, Field(strict=True, ge=1e-13, le=1e-2)] = 1e-8
    """Relative tolerance of a step."""
    atol: Annotated[float, Field(strict=True, gt=0, le=1e-2)] = 1e-10
    """Absolute tolerance of a step."""
    loss: AnyLoss = Field(default_factory=HalfSum)
    """Loss, which fixes the unit of time."""
    stop: Stop | None = None
    """When to stop before the end."""

    def axis(self) -> Axis:
        return Axis(self.t_end, discrete=False)

    def evaluations(self) -> float:
        return 300.0  # at rtol 1e-8 on well-conditioned data; a stiff problem takes many more


AnyTraining = Annotated[GradientDescent | GradientFlow, Field(discriminator="kind")]


@spec
class Data:
    """What is trained on, and where else the function is watched."""

    x: ArrayField
    """Training inputs (m, d)."""
    y: ArrayField
    """Training targets (m, k)."""
    x_test: ArrayField | None = None
    """Inputs (n, d) on which outputs and slopes are recorded too."""
    y_test: ArrayField | None = None
    """Targets (n, k) of the test inputs, for the loss there."""

    def check(self, outputs: int) -> None:
        """The arrays fit each other and a network with that many outputs."""
        m, *in_shape = inputs_shape(self.x, "/x")
        check_targets(self.y, m, outputs, "/y")
        if self.x_test is not None and list(inputs_shape(self.x_test, "/x_test")[1:]) != in_shape:
            raise SpecError(
                f"test inputs have shape {shape_of(self.x_test, 'x')}, training inputs {(m, *in_shape)}",
                pointer="/x_test",
                hint="give both the same number of columns",
            )
        if self.y_test is not None:
            if self.x_test is None:
                raise SpecError("test targets need test inputs", pointer="/y_test", hint="give x_test too")
            check_targets(self.y_test, inputs_shape(self.x_test, "/x_test")[0], outputs, "/y_test")


def check_targets(y: ArrayValue, rows: int, outputs: int, pointer: str) -> None:
    """Targets are a matrix with a row for each input."""
    shape = shape_of(y, "y")
    if shape != (rows, outputs):
        raise SpecError(
            f"targets have shape {shape}; {rows} inputs and {outputs} outputs need ({rows}, {outputs})",
            pointer=pointer,
            hint=f"give {rows} rows of {outputs} numbers, such as {[[0.0] * min(outputs, 4)]}",
        )


@spec
class RunSpec:
    """A training run: a network, data, how it is trained and what is recorded."""

    model: Model
    """The network."""
    data: Data
    """What it is trained on."""
    training: AnyTraining
    """How its weights move."""
    record: Annotated[tuple[AnyRecord, ...], Field(min_length=1)] = Field(
        default_factory=lambda: (LossRecord(), OutputsRecord())
    )
    """What is recorded and when; start and end are recorded always."""
    seed: NonNegativeInt | None = None
    """Seed of the initial weights; 0 where neither seed nor weights are given."""
    weights: dict[str, NumbersField] | None = None
    """Initial weights by name, such as `layers.0.W` of shape (fan-in, width), in place of a seed."""

    def starts(self) -> list[tuple[int, Weights | None]]:
        """Seed and weights of every member."""
        return [(self.seed or 0, self.weights)]

    def joined(self, members: Sequence[dict[str, Value]]) -> dict[str, Value]:
        """What was recorded of the members as it is kept: of one network, without an axis of members."""
        (only,) = members
        return only

    def rates(self, table: Mapping[str, float]) -> dict[str, float]:
        """The factor on the learning rate of each tensor: that of the parameterization's table."""
        return dict(table)

    def check(self) -> None:
        """Check the parts against each other. Torch-free.

        Raises:
            EngineError: with the pointer of the field that does not fit.
        """
        with located("/data"):
            in_shape = inputs_shape(self.data.x, "/x")[1:]
        with located("/model"):
            site = self.model.check_finite(in_shape)
        with located("/data"):
            self.data.check(site.known_size(site.out_shape))
        check_start(site, self.seed, self.weights)
        with located("/model"):
            check_not_random(site)
        seen: set[str] = set()
        for index, record in enumerate(self.record):
            with located(f"/record/{index}"):
                record.check(site, self.training.axis())
                if record.what in seen:
                    raise SpecError(f"{record.what} is recorded twice", hint="name each quantity once")
            seen.add(record.what)

    def place(self) -> Site:
        """The network's layers in their places."""
        return self.model.check_finite(inputs_shape(self.data.x, "/data/x")[1:])

    def facts(self) -> dict[str, Any]:
        """What converts steps, the run's time and the theory's time into each other. Torch-free."""
        rate_factor = self.training.loss.rate_factor(*shape_of(self.data.y, "y"))
        return {
            "rate_factor": rate_factor,
            "time_per_step": self.training.time_per_step,
            "time_unit": (
                f"time of gradient flow on the {self.training.loss.kind} loss; "
                f"times rate_factor ({rate_factor:g}) it is time on half_sum"
            ),
        }

    def plan(self) -> dict[str, Any]:
        """Estimated cost: recorded points, flops, bytes held in memory and bytes kept. Torch-free."""
        site, axis = self.place(), self.training.axis()
        m, k = shape_of(self.data.y, "y")
        n = 0 if self.data.x_test is None else shape_of(self.data.x_test, "x")[0]
        count = parameter_count(site)
        positions = [{0.0, axis.end, *record.schedule.positions(axis)} for record in self.record]
        sizes = [record.size(Shapes(m, n, k, count)) for record in self.record]
        training = 20 * count + m * sum(leaf.out_shape[-1] or 0 for leaf in site.leaves())
        return {
            "points": len(set().union(*positions)),
            "flops": (6.0 * count * m + GRADIENT_OVERHEAD) * self.training.evaluations(),
            "bytes": 8 * (training + max(size.held for size in sizes)),
            "bytes_kept": 8 * sum(size.kept * len(at) for size, at in zip(sizes, positions, strict=True)),
        }
