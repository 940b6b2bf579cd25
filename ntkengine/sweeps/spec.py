"""A sweep as data: what `POST /sweeps` takes. Torch-free."""

from __future__ import annotations

import itertools
import json
import math
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import to_jsonable_python

from ntkengine.dynamics import At, DisplacementRecord, KernelDistanceRecord, LossRecord, RunSpec
from ntkengine.dynamics.spec import FLOPS_PER_SECOND
from ntkengine.errors import EngineError, SpecError
from ntkengine.pointers import POINTER, along, is_within, keys_of, replaced
from ntkengine.spec import from_jsonable, spec, to_jsonable

MOST_AXES, MOST_VALUES, MOST_COMBINATIONS, MOST_MEMBERS = 8, 1000, 10_000, 1000
MOST_FIELDS = 64  # that take the same value
LONGEST = 2000  # characters of a value in JSON: every row has them

ENDS = At(at=(0.0,))  # start and end are recorded always
NEEDED = (LossRecord(), KernelDistanceRecord(), DisplacementRecord())  # what a row is made of


def as_json(value: Any) -> Any:
    """Specs and numpy's numbers, as JSON has them."""
    return to_jsonable_python(value, fallback=listed)


def listed(value: Any) -> Any:
    """The numbers of what has them."""
    if not hasattr(value, "tolist"):
        raise ValueError(f"{type(value).__name__} has no JSON form")
    return value.tolist()


Pointer = Annotated[str, Field(pattern=POINTER, examples=["/training/learning_rate"])]
Value = Annotated[Any, BeforeValidator(as_json), WithJsonSchema({"description": "What the field takes."})]


@spec
class SweepAxis:
    """A field of a run, and the values that it takes."""

    field: Pointer
    """The field's JSON pointer (RFC 6901) in the run: `/training/learning_rate`, `/model/layers/0/width`."""
    values: Annotated[tuple[Value, ...], Field(min_length=1, max_length=MOST_VALUES)]
    """Its values."""
    also: Annotated[tuple[Pointer, ...], Field(max_length=MOST_FIELDS)] = ()
    """Further fields that take the same value, such as the widths of the other hidden layers."""

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that take the value."""
        return (self.field, *self.also)

    def holds(self, pointer: str) -> bool:
        """Whether the place lies in what this axis varies."""
        return any(is_within(pointer, each) for each in self.fields)


@dataclass(frozen=True)
class Combination:
    """A value of each axis: row number `index` of the table."""

    index: int
    places: tuple[int, ...]  # of the values on their axes


@spec
class SweepSpec:
    """A run, and fields of it that take several values: each combination of them is trained.

    What the run records is replaced by what the table has; of a linearized twin, its order is kept.
    """

    run: RunSpec
    """The run that is varied. Its seeds, if there are several, are trained together, and give intervals."""
    axes: Annotated[tuple[SweepAxis, ...], Field(min_length=1, max_length=MOST_AXES)]
    """What is varied. An axis may set a field inside of what one before it has set."""
    combine: Literal["grid", "zip"] = "grid"
    """`grid`: each value of an axis with each of the others, the last axis varying fastest; `zip`: the first
    values together, then the second ones, and so on."""

    @property
    def count(self) -> int:
        """How many combinations there are."""
        lengths = [len(axis.values) for axis in self.axes]
        return math.prod(lengths) if self.combine == "grid" else min(lengths)

    def combinations(self) -> list[Combination]:
        """All of them, in the order of the table's rows."""
        places = [range(len(axis.values)) for axis in self.axes]
        together = itertools.product(*places) if self.combine == "grid" else zip(*places, strict=False)
        return [Combination(*numbered) for numbered in enumerate(together)]

    def values(self, combination: Combination) -> list[Any]:
        """The values of a combination, an axis each."""
        return [axis.values[place] for axis, place in zip(self.axes, combination.places, strict=True)]

    def runs(self) -> Iterator[tuple[Combination, RunSpec]]:
        """The run of each combination, as it is trained.

        Raises:
            SpecError: it is no run; with the pointer of the value, and which combination it is.
        """
        tree = to_jsonable(self.run)
        outer = {keys_of(each)[0] for axis in self.axes for each in axis.fields}
        # what no axis touches is not validated again: data may be large
        base = {name: value if name in outer else getattr(self.run, name) for name, value in tree.items()}
        for combination in self.combinations():
            yield combination, measured(self._run(base, combination))

    def _run(self, base: dict[str, Any], combination: Combination) -> RunSpec:
        tree = base
        for number, (axis, value) in enumerate(zip(self.axes, self.values(combination), strict=True)):
            for field in axis.fields:
                try:
                    tree = replaced(tree, keys_of(field), value)
                except KeyError:
                    raise SpecError(
                        f"{self._words(combination)}: the run has no place {field}",
                        pointer=f"/axes/{number}/field",
                        hint="vary what would hold it as a whole, or correct the pointer",
                    ) from None
        try:
            run: RunSpec = from_jsonable(RunSpec, tree)
        except ValidationError as error:
            first = error.errors()[0]
            missing = first["type"].startswith("missing")
            wrong = SpecError(first["msg"], pointer=along(tree, first["loc"], ends_in_a_key=missing))
            raise self.blamed(wrong, combination) from None
        return run

    def blamed(self, error: EngineError, combination: Combination) -> EngineError:
        """The error of a combination's run, as one of the sweep: at the value that brought it about."""
        pointer = error.pointer or ""
        inside = [n for n, axis in enumerate(self.axes) if axis.holds(pointer)]
        around = [n for n, axis in enumerate(self.axes) if any(is_within(f, pointer) for f in axis.fields)]
        suspects = inside[-1:] or around or range(len(self.axes))
        error.args = (f"{self._words(combination)}: {error}{f' (at {pointer})' if pointer else ''}",)
        guilty = suspects[0] if len(suspects) == 1 else None
        error.pointer = "/axes" if guilty is None else f"/axes/{guilty}/values/{combination.places[guilty]}"
        return error

    def _words(self, combination: Combination) -> str:
        named = zip(self.axes, self.values(combination), strict=True)
        said = ", ".join(f"{axis.field} = {reprlib.repr(value)}" for axis, value in named)
        return f"combination {combination.index} ({said})"

    def check(self, check_run: Callable[[RunSpec], None] = RunSpec.check) -> None:
        """Check the axes, and the run of every combination. Torch-free.

        Args:
            check_run: what a run has to pass.

        Raises:
            EngineError: with the pointer of the axis or value that does not fit, and the combination.
        """
        self._check_axes()
        for combination, run in self.runs():
            try:
                check_members(run)
                check_run(run)
            except EngineError as error:
                if (at_fault := self._fault_of_run(error, check_run)) is not None:
                    raise at_fault from None
                raise self.blamed(error, combination) from None

    def _fault_of_run(self, error: EngineError, check_run: Callable[[RunSpec], None]) -> EngineError | None:
        """The same error of the run itself, where that is wrong already."""
        if error.pointer is None or any(axis.holds(error.pointer) for axis in self.axes):
            return None
        try:
            check_members(self.run)
            check_run(measured(self.run))
        except EngineError as same:
            if same.pointer == error.pointer:
                same.pointer = f"/run{same.pointer}"
                return same
        return None

    def _check_axes(self) -> None:
        if self.count > MOST_COMBINATIONS:
            raise SpecError(
                f"{self.count:,} combinations; a sweep has at most {MOST_COMBINATIONS:,}",
                pointer="/axes",
                hint="give fewer values, or several sweeps",
            )
        if self.combine == "zip" and len({len(axis.values) for axis in self.axes}) > 1:
            raise SpecError(
                f"axes that are zipped have {[len(axis.values) for axis in self.axes]} values",
                pointer="/axes",
                hint='give each as many, or use "combine": "grid"',
            )
        fields = [(n, field) for n, axis in enumerate(self.axes) for field in axis.fields]
        for (_, earlier), (number, later) in itertools.combinations(fields, 2):
            if is_within(earlier, later):
                raise SpecError(
                    f"{later} would undo what is set at {earlier} before",
                    pointer=f"/axes/{number}/field",
                    hint="vary each place once, and what holds others before them",
                )
        self._check_values()

    def _check_values(self) -> None:
        texts = [[json.dumps(value, sort_keys=True) for value in axis.values] for axis in self.axes]
        for number, column in enumerate(texts):
            if too_long := [place for place, text in enumerate(column) if len(text) > LONGEST]:
                raise SpecError(
                    f"a value has {len(column[too_long[0]]):,} characters; all rows have their values, of at "
                    f"most {LONGEST:,} characters each",
                    pointer=f"/axes/{number}/values/{too_long[0]}",
                    hint="vary smaller fields; of data, the name of a data set or its limit",
                )
        if self.combine == "zip":
            texts = [["\n".join(each) for each in zip(*texts, strict=True)]]
        for number, column in enumerate(texts):
            if again := [place for place, text in enumerate(column) if text in column[:place]]:
                raise SpecError(
                    "these values are listed twice",
                    pointer=f"/axes/{number}/values/{again[0]}",
                    hint="name each once",
                )

    def costs(self) -> list[float]:
        """Flops of each combination. Torch-free."""
        return [float(run.plan()["flops"]) for _, run in self.runs()]

    def plan(self) -> dict[str, Any]:
        """Estimated cost of all combinations: flops, seconds, bytes held and bytes kept. Torch-free."""
        plans = [(run.plan(), len(run.starts())) for _, run in self.runs()]
        flops = sum(plan["flops"] for plan, _ in plans)
        return {
            "combinations": len(plans),
            "flops": flops,
            "seconds": flops / FLOPS_PER_SECOND,
            "bytes": max(plan["bytes"] for plan, _ in plans),
            "bytes_kept": sum(ROW_BYTES + NUMBERS * 8 * members for _, members in plans),
        }


ROW_BYTES, NUMBERS = 2000, 8  # of a row of the table, and of each member that is behind it


def measured(run: RunSpec) -> RunSpec:
    """The run with the records of a sweep, at its start and end."""
    records = [next((own for own in run.record if own.what == each.what), each) for each in NEEDED]
    twin = [] if run.linearized is None else [run.linearized]
    return replace(run, record=tuple(replace(record, schedule=ENDS) for record in (*records, *twin)))


def check_members(run: RunSpec) -> None:
    """Refuse more members than intervals are made of."""
    if (members := len(run.starts())) > MOST_MEMBERS:
        raise SpecError(
            f"{members:,} members; a sweep trains at most {MOST_MEMBERS:,} of each combination",
            pointer="/seeds" if run.seeds is not None else "/weights",
            hint="use fewer seeds",
        )


__all__ = ["Combination", "SweepAxis", "SweepSpec"]
