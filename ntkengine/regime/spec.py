"""A regime report as data: what `POST /regime` takes. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from ntkengine.data import inputs_shape, shape_of
from ntkengine.dynamics import (
    Adam,
    AlignmentRecord,
    CKARecord,
    Data,
    DisplacementRecord,
    GradientDescent,
    GradientFlow,
    KernelDistanceRecord,
    KernelVelocityRecord,
    Logarithmic,
    LossRecord,
    OutputsRecord,
    RunSpec,
)
from ntkengine.dynamics.records import LinearizedRecord
from ntkengine.dynamics.spec import FLOPS_PER_SECOND
from ntkengine.errors import SpecError, UnsupportedError, located
from ntkengine.losses import Squared
from ntkengine.model import InitialFunction, Model
from ntkengine.regime.widths import at_width, own_width
from ntkengine.spec import Count, spec

MOST_SEEDS, MOST_WIDTHS = 1000, 32
PROBES = (1, 2, 4)  # times the own width or output scale: what an exponent is fitted to, if nothing else
MOMENTS, KERNEL_MOMENTS = 16, 4  # after the start, evenly spaced in the logarithm of time

AnyTraining = Annotated[GradientDescent | Adam | GradientFlow, Field(discriminator="kind")]


@dataclass(frozen=True)
class Case:
    """One network of those that a report compares."""

    width: int
    scale: float = 1.0  # on the output, over that of the model; anything but 1 starts at f = 0

    @property
    def key(self) -> str:
        return f"{self.width}:{self.scale!r}"


@spec
class RegimeSpec:
    """The question whether a network trains as its kernel at the start says.

    Several seeds of every width are trained, with the linearized network and the kernel's closed form beside
    them.
    """

    model: Model
    """The network. Its width is that of its widest hidden layer; at other widths all hidden layers are
    scaled in proportion."""
    data: Data
    """What it is trained on, and test points, with targets for test errors."""
    training: AnyTraining
    """How it is trained, the same at all widths."""
    widths: Annotated[tuple[Count, ...], Field(min_length=1, max_length=MOST_WIDTHS)] | None = None
    """Further widths, for the exponents; the model's own width is always among them."""
    seeds: Annotated[int, Field(ge=2, le=MOST_SEEDS, strict=True)] = 5
    """How many seeds of each width: 0, 1, ..."""
    tolerance: Annotated[float, Field(gt=0.0, le=1.0, strict=True)] = 0.1
    """What the advice is to reach: a relative change of the kernel, and an error of the linearization,
    that are below this."""
    advise: Literal["none", "width", "output_scale"] = "none"
    """Whether to look for the width, or the output scale, at which it is lazy within the tolerance."""

    @property
    def in_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        with located("/data"):
            return tuple(inputs_shape(self.data.x, "/x")[1:])

    @property
    def own(self) -> Case:
        """The network as it is given."""
        return Case(own_width(self.model, self.in_shape))

    def cases(self) -> list[Case]:
        """The networks that are compared, by width."""
        own = self.own.width
        probes = tuple(own * times for times in PROBES) if self.advise == "width" else ()
        widths = {own, *(self.widths or probes)}
        return [Case(width) for width in sorted(widths)]

    def probes(self) -> list[Case]:
        """The networks from which an exponent in the output scale is fitted."""
        if self.advise != "output_scale":
            return []
        return [Case(self.own.width, float(times)) for times in PROBES[1:]]

    def model_of(self, case: Case) -> Model:
        """The network of a case. With its output scaled it starts at f = 0: a larger scale on the outputs at
        the start would be a larger error to train away, and leave training as lazy as before."""
        model = at_width(self.model, self.in_shape, case.width)
        if case.scale == 1.0:
            return model
        start = started(model, case.scale)
        return replace(model, output_scale=model.output_scale * case.scale, initial_function=start)

    def training_of(self, case: Case) -> AnyTraining:
        """The kernel of alpha f is alpha^2 times that of f, so time and learning rates are over alpha^2."""
        return (
            self.training if case.scale == 1.0 else SLOWED[type(self.training)](self.training, case.scale**-2)
        )

    @property
    def linear_by_kernel(self) -> bool:
        """Whether the linearized network follows from its kernel alone, step for step."""
        training = self.training
        whole = getattr(training, "batch_size", None) in (None, shape_of(self.data.y, "y")[0])
        plain = whole and not getattr(training, "weight_decay", 0.0) and not isinstance(training, Adam)
        return plain and isinstance(training.loss, Squared)

    def run(self, case: Case) -> RunSpec:
        """The training of all seeds of a case."""
        often, seldom = Logarithmic(points=MOMENTS), Logarithmic(points=KERNEL_MOMENTS)
        records = (
            LossRecord(schedule=often),
            OutputsRecord(schedule=often),
            KernelDistanceRecord(schedule=seldom),
            KernelVelocityRecord(schedule=seldom),
            AlignmentRecord(schedule=seldom),
            CKARecord(schedule=seldom),
            DisplacementRecord(schedule=seldom),
        )
        twin = () if self.linear_by_kernel else (LinearizedRecord(schedule=often),)
        return RunSpec(
            model=self.model_of(case),
            data=self.data,
            training=self.training_of(case),
            seeds=tuple(range(self.seeds)),
            record=(*records, *twin),
        )

    def check(self) -> None:
        """Check the parts against each other. Torch-free.

        Raises:
            EngineError: with the pointer of the field that does not fit.
        """
        for case in self.cases():
            self.run(case).check()
        if len(set(self.widths or ())) < len(self.widths or ()):
            raise SpecError("a width is listed twice", pointer="/widths", hint="name each width once")
        if self.advise == "output_scale" and type(self.training) not in SLOWED:
            raise UnsupportedError(
                f"{self.training.kind} does not slow down by a factor, so output scales cannot be compared",
                pointer="/advise",
                hint='use gradient descent or gradient flow, or "advise": "width"',
            )
        for case in self.probes():
            self.run(case).check()

    def plan(self) -> dict[str, Any]:
        """Estimated cost of all widths and of the advice: flops, seconds and bytes. Torch-free."""
        cases = [*self.cases(), *self.probes()]
        costs = [self.cost(case) for case in cases]
        advice = 0.0 if self.advise == "none" else 2.0 * ADVICE_GROWTH * max(costs)
        bytes_ = max(self.run(case).plan()["bytes"] for case in cases) + self._kernel_bytes()
        flops = sum(costs) + advice
        return {"cases": len(cases), "flops": flops, "seconds": flops / FLOPS_PER_SECOND, "bytes": bytes_}

    def cost(self, case: Case) -> float:
        """Flops of a case: its training, and the kernels and their modes at the start."""
        rows, tests = self._rows()
        width, k = case.width, shape_of(self.data.y, "y")[1]
        kernel = 2.0 * rows * (rows + tests) * width + KRYLOV * 2.0 * rows * (rows + tests)
        few = min(rows, 500) ** 3 * 10.0
        measures = 10.0 * KERNEL_MOMENTS * 2.0 * rows * rows / k * width
        return float(self.run(case).plan()["flops"]) + self.seeds * (kernel + few + measures)

    def _rows(self) -> tuple[int, int]:
        m, k = shape_of(self.data.y, "y")
        n = 0 if self.data.x_test is None else shape_of(self.data.x_test, "x")[0]
        return m * k, n * k

    def _kernel_bytes(self) -> float:
        rows, tests = self._rows()
        return 8.0 * (3 * rows * (rows + tests) + KRYLOV * rows)


def started(model: Model, scale: float) -> InitialFunction:
    """The initial function of a model whose output is scaled by that factor."""
    return "centred" if scale != 1.0 and model.initial_function == "raw" else model.initial_function


KRYLOV, ADVICE_GROWTH = 400, 4.0  # dimensions of a Krylov space, at most; how much wider advice may be

SLOWED: Mapping[type, Any] = {
    GradientDescent: lambda training, by: replace(training, learning_rate=training.learning_rate * by),
    GradientFlow: lambda training, by: replace(training, t_end=training.t_end * by),
}
"""Training whose time goes by a factor as fast."""

__all__ = ["Case", "RegimeSpec"]
