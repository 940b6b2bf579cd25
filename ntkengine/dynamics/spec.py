"""A training run as data: what `POST /runs` takes. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Discriminator, Field, Tag

from ntkengine.data import ArrayField, ArrayValue, NumbersField, inputs_shape, load, shape_of
from ntkengine.dynamics.losses import Loss
from ntkengine.dynamics.mean_field import MeanFieldFlow
from ntkengine.dynamics.records import AnyRecord, LinearizedRecord, LossRecord, OutputsRecord, Shapes, Value
from ntkengine.dynamics.training import Adam, GradientDescent, GradientFlow
from ntkengine.empirical.implementation import parameter_count
from ntkengine.errors import SpecError, located, pointer_of
from ntkengine.layer import Site
from ntkengine.model import Model
from ntkengine.spec import NonNegativeInt, spec
from ntkengine.weights import Weights, check_not_random, check_start, expected_shapes

MOST_MEMBERS = 10_000
GRADIENT_OVERHEAD = 2e7  # what a gradient costs besides its arithmetic, in flops' worth of time
FLOPS_PER_SECOND = 3e10  # that an ordinary core does in training, in this count: no promise

AnyTraining = Annotated[GradientDescent | Adam | GradientFlow | MeanFieldFlow, Field(discriminator="kind")]


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

    def check(self, outputs: int, loss: Loss) -> None:
        """The arrays fit each other, a network with that many outputs, and the loss."""
        m, *in_shape = inputs_shape(self.x, "/x")
        check_targets(self.y, m, outputs, loss, "/y")
        if self.x_test is not None and list(inputs_shape(self.x_test, "/x_test")[1:]) != in_shape:
            raise SpecError(
                f"test inputs have shape {shape_of(self.x_test, 'x')}, training inputs {(m, *in_shape)}",
                pointer="/x_test",
                hint="give both the same number of columns",
            )
        if self.y_test is not None:
            if self.x_test is None:
                raise SpecError("test targets need test inputs", pointer="/y_test", hint="give x_test too")
            check_targets(self.y_test, inputs_shape(self.x_test, "/x_test")[0], outputs, loss, "/y_test")


def check_targets(y: ArrayValue, rows: int, outputs: int, loss: Loss, pointer: str) -> None:
    """Targets are a matrix with a row for each input, of numbers that mean something for the loss."""
    shape = shape_of(y, "y")
    if shape != (rows, outputs):
        raise SpecError(
            f"targets have shape {shape}; {rows} inputs and {outputs} outputs need ({rows}, {outputs})",
            pointer=pointer,
            hint=f"give {rows} rows of {outputs} numbers, such as {[[0.0] * min(outputs, 4)]}",
        )
    with located(pointer):
        loss.check(load(y, "y"))


def one_or_several(weights: Any) -> str:
    """Which form of weights it is, so that mistakes are reported of that form alone."""
    return "several" if isinstance(weights, list | tuple) else "one"


OneStart = dict[str, NumbersField]
SeveralStarts = Annotated[tuple[OneStart, ...], Field(min_length=1, max_length=MOST_MEMBERS)]
Starts = Annotated[
    Annotated[OneStart, Tag("one")] | Annotated[SeveralStarts, Tag("several")], Discriminator(one_or_several)
]


@spec
class RunSpec:
    """A training run: a network, data, how it is trained and what is recorded.

    With `seeds`, or a list of `weights`, several members of one model train together, and every
    recorded value gets a leading axis of members; `seed` and one object of `weights` have no such axis.
    """

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
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1, max_length=MOST_MEMBERS)] | None = None
    """Seeds of several members."""
    weights: Starts | None = None
    """Initial weights by name, such as `layers.0.W` of shape (fan-in, width), in place of a seed; or a list
    of such objects, one a member."""

    @property
    def _one_weights(self) -> dict[str, Any] | None:
        return self.weights if isinstance(self.weights, dict) else None

    @property
    def _many_weights(self) -> tuple[dict[str, Any], ...] | None:
        return None if self.weights is None or isinstance(self.weights, dict) else self.weights

    @property
    def linearized(self) -> LinearizedRecord | None:
        """The record for which a twin is trained beside the network, if there is one."""
        return next((record for record in self.record if isinstance(record, LinearizedRecord)), None)

    @property
    def member_axis(self) -> bool:
        """Whether recorded values have a leading axis of members."""
        return self.seeds is not None or self._many_weights is not None

    def starts(self) -> list[tuple[int, Weights | None]]:
        """Seed and weights of every member."""
        if self.seeds is not None:
            return [(seed, None) for seed in self.seeds]
        return [(self.seed or 0, weights) for weights in self._many_weights or (self._one_weights,)]

    def joined(self, members: Sequence[dict[str, Value]]) -> dict[str, Value]:
        """What was recorded of the members, as it is kept: along an axis of members, where there is one."""
        return (
            {name: stacked([each[name] for each in members]) for name in members[0]}
            if self.member_axis
            else members[0]
        )

    def rates(self, table: Mapping[str, float]) -> dict[str, float]:
        """The factor on the learning rate of each tensor: the table's N^-c times that of `learning_rates`."""
        return {name: rate * self.training.factor(name) for name, rate in table.items()}

    def check(self) -> None:
        """Check the parts against each other. Torch-free.

        Raises:
            EngineError: with the pointer of the field that does not fit.
        """
        with located("/data"):
            in_shape = inputs_shape(self.data.x, "/x")[1:]
        with located("/model"):
            site = self.training.place(self.model, in_shape)
        with located("/data"):
            self.data.check(site.known_size(site.out_shape), self.training.loss)
        self._check_start(site)
        with located("/model"):
            check_not_random(site)
        self._check_table(site)
        with located("/training"):
            self.training.check(expected_shapes(site))
        seen: set[str] = set()
        for index, record in enumerate(self.record):
            with located(f"/record/{index}"):
                record.check(site, self.training.axis())
                if record.needs_time and self.training.has_no_time:
                    raise SpecError(
                        f"steps of {self.training.kind} have no time to take {record.what} in",
                        hint=f"leave {record.what} out, or use gradient descent or gradient flow",
                    )
                if record.what in seen:
                    raise SpecError(f"{record.what} is recorded twice", hint="name each quantity once")
            seen.add(record.what)

    def _check_start(self, site: Site) -> None:
        """Members start from seeds or from weights that fit, not from both."""
        if self.seeds is not None and (self.seed is not None or self.weights is not None):
            raise SpecError(
                "seeds stand in place of seed and weights", pointer="/seeds", hint="give one of them"
            )
        if self._many_weights is None:
            check_start(site, self.seed, self._one_weights)
        for index, weights in enumerate(self._many_weights or ()):
            try:
                check_start(site, self.seed, weights)
            except SpecError as error:
                error.pointer = f"/weights/{index}{(error.pointer or '').removeprefix('/weights')}"
                raise

    def _check_table(self, site: Site) -> None:
        """A table of learning rates that is for one optimiser does nothing good under another."""
        tables = {"/model/parameterization": self.model.parameterization} | {
            f"/model{pointer_of(leaf.path)}/parameterization": getattr(leaf.layer, "parameterization", None)
            for leaf in site.leaves()
        }
        wanted = self.training.table_for
        for pointer, table in tables.items():
            if getattr(table, "optimizer", wanted) != wanted:
                raise SpecError(
                    f"these learning rates are for another optimiser than {self.training.kind}: with its "
                    "width exponents some layers would learn nothing, or diverge, as the width grows",
                    pointer=f"{pointer}/optimizer",
                    hint=f'use "optimizer": "{wanted}"',
                )

    def place(self) -> Site:
        """The network's layers in their places."""
        return self.training.place(self.model, inputs_shape(self.data.x, "/data/x")[1:])

    def facts(self) -> dict[str, Any]:
        """What converts steps, the run's time and the theory's time into each other. Torch-free."""
        rate_factor = self.training.loss.rate_factor(*shape_of(self.data.y, "y"))
        return {
            "rate_factor": rate_factor,
            "time_per_step": self.training.time_per_step,
            "time_unit": (
                "steps of an optimiser that has no time of gradient flow"
                if self.training.has_no_time
                else f"time of gradient flow on the {self.training.loss.kind} loss; "
                f"times rate_factor ({rate_factor:g}) it is time on a plain sum over points"
            ),
            "members": len(self.starts()),
        }

    def plan(self) -> dict[str, Any]:
        """Estimated cost: recorded points, flops, seconds, bytes held and bytes kept. Torch-free."""
        site, axis = self.place(), self.training.axis()
        m, k = shape_of(self.data.y, "y")
        n = 0 if self.data.x_test is None else shape_of(self.data.x_test, "x")[0]
        count, members = parameter_count(site), len(self.starts())
        positions = [{0.0, axis.end, *record.schedule.positions(axis)} for record in self.record]
        sizes = [record.size(Shapes(m, n, k, count)) for record in self.record]
        training = members * (20 * count + m * sum(leaf.out_shape[-1] or 0 for leaf in site.leaves()))
        kept = sum(size.kept * len(at) for size, at in zip(sizes, positions, strict=True))
        twin = 0 if self.linearized is None else self.linearized.gradients()
        gradients = (1 + twin) * self.training.evaluations(m)
        flops = (6.0 * count * m * members + GRADIENT_OVERHEAD) * gradients
        return {
            "points": len(set().union(*positions)),
            "flops": flops,
            "seconds": flops / FLOPS_PER_SECOND,
            "bytes": 8 * (training + members * max(size.held for size in sizes)),
            "bytes_kept": 8 * members * kept,
        }


def stacked(values: Sequence[Any]) -> Value:
    """Values of the same form, along a new first axis."""
    if isinstance(values[0], dict):
        return {name: stacked([value[name] for value in values]) for name in values[0]}
    return np.stack(values)
