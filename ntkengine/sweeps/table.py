"""From the numbers of members to the rows of a sweep, and to exponents in its axes. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.analysis import fit_exponent, median_interval
from ntkengine.dynamics import Outcome, RunSpec
from ntkengine.dynamics.segments import joint
from ntkengine.sweeps.spec import Combination, SweepAxis, SweepSpec

Array = NDArray[Any]
Numbers = dict[str, Array]
"""By name, (S,) each, one a member; NaN where a member has none. `outcomes` are words, "" where unknown."""
Row = dict[str, Any]

RECORDED: Mapping[str, tuple[str, ...]] = {
    "loss": ("loss",),
    "loss_test": ("loss_test",),
    "kernel_change": ("kernel_distance",),
    "weight_change": ("displacement",),
    "linearization_error": ("linearized", "relative_error"),
}
"""The measures of a row, and where the last point of a run has them."""
FITTED = ("kernel_change", "weight_change", "linearization_error")
LEAST_VALUES = 3  # two points lie on a power, whatever they are
LABELS = frozenset({"/seed", "/training/batch_seed"})  # numbers, but no quantities


def recorded(run: RunSpec, values: Mapping[str, Any]) -> Numbers:
    """The measures of each member, from the values of a point."""
    nothing = np.full(len(run.starts()), np.nan)
    found: Numbers = {}
    for name, place in RECORDED.items():
        value: Any = values
        for key in place:
            value = value.get(key, {})
        found[name] = nothing if isinstance(value, Mapping) else np.atleast_1d(np.asarray(value, np.float64))
    return found


def ended(run: RunSpec, state: Mapping[str, Array]) -> Numbers:
    """Where each member of a run ended, in steps or units of time, and how: from its last checkpoint."""
    outcomes = np.where(state["outcomes"] == "", str(Outcome.STOPPED), state["outcomes"])
    return {"ended_at": np.minimum(state["ended_at"], run.training.axis().end), "outcomes": outcomes}


def unknown(run: RunSpec) -> Numbers:
    """Of members of which nothing is known."""
    members = len(run.starts())
    return {**recorded(run, {}), "ended_at": np.full(members, np.nan), "outcomes": np.full(members, "")}


def row_of(
    spec: SweepSpec, combination: Combination, run: RunSpec, numbers: Numbers, error: str | None
) -> Row:
    """What the table says of a combination. Measures are of the members that did not diverge."""
    outcomes = [Outcome(each) for each in numbers["outcomes"].tolist() if each]
    stayed = numbers["outcomes"] != str(Outcome.DIVERGED)
    training, end = run.training, numbers["ended_at"]
    return {
        "index": combination.index,
        "values": spec.values(combination),
        "outcome": str(joint(outcomes)) if outcomes else None,
        "members": len(stayed),
        "diverged": int((~stayed).sum()),
        **{name: cell(numbers[name][stayed]) for name in RECORDED},
        "steps": cell(end) if training.axis().discrete else None,
        "time": None if training.has_no_time else cell(end * (training.time_per_step or 1.0)),
        "error": error,
    }


def cell(values: Array) -> Row | None:
    """The median of members with its bootstrap interval, which one alone has not; None where none has a
    number."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return {"median": float(known[0]), "low": None, "high": None} if len(known) else None
    return dict(median_interval(known)._asdict())


def exponents(spec: SweepSpec, rows: Sequence[Row], numbers: Sequence[Numbers]) -> list[Row]:
    """The exponents `p` of `measure ~ value^p` in each axis of positive numbers, one for each combination of
    the other axes' values."""
    return [
        {"of": name, "field": axis.field, "at": at, **fitted}
        for number, axis in enumerate(spec.axes)
        if is_quantity(axis)
        for at, group in groups(spec, number)
        for name in FITTED
        if (fitted := fit(number, [(rows[i], numbers[i][name]) for i in group])) is not None
    ]


def is_quantity(axis: SweepAxis) -> bool:
    """Whether powers of the axis' values make sense."""
    return axis.field not in LABELS and all(
        isinstance(each, int | float) and not isinstance(each, bool) and each > 0 for each in axis.values
    )


def groups(spec: SweepSpec, number: int) -> Iterator[tuple[Row, list[int]]]:
    """The rows between which nothing but an axis varies, and what the others are there; where axes are
    zipped, all rows."""
    found: dict[tuple[int, ...], list[int]] = {}
    for combination in spec.combinations():
        places = combination.places
        others = (*places[:number], *places[number + 1 :]) if spec.combine == "grid" else ()
        found.setdefault(others, []).append(combination.index)
    axes = [axis for other, axis in enumerate(spec.axes) if other != number]
    for others, rows in found.items():
        yield {axis.field: axis.values[at] for axis, at in zip(axes, others, strict=False)}, rows


def fit(number: int, points: Sequence[tuple[Row, Array]]) -> Row | None:
    """The exponent through the rows that have a positive number of every member; None where they are too
    few, or have members that are not the same."""
    sound = [
        (row["values"][number], values)
        for row, values in points
        if row["error"] is None and row["diverged"] == 0 and (values > 0).all()
    ]
    if len({x for x, _ in sound}) < LEAST_VALUES or len({len(values) for _, values in sound}) > 1:
        return None
    x, y = [x for x, _ in sound], np.array([values for _, values in sound])
    if y.shape[1] > 1:
        return {**fit_exponent(x, y)._asdict(), "values": x}
    slope = np.polyfit(np.log(x), np.log(y[:, 0]), 1)[0]
    return {"slope": float(slope), "low": None, "high": None, "values": x}
