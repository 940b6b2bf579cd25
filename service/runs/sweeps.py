"""What a sweep costs, whether that is allowed, and its table as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ntkengine.spec import to_jsonable
from ntkengine.sweeps import SweepSpec
from service.encoding import dumps
from service.runs.limits import check_combinations, check_sweep, check_whole_run
from service.settings import Settings

MEASURES = (
    "loss", "loss_test", "kernel_change", "weight_change", "linearization_error", "steps", "time",
)  # fmt: skip
PARTS = {"median": "", "low": "_low", "high": "_high"}
"""What is added to a measure's name for a part of it."""


def check(spec: SweepSpec, settings: Settings) -> None:
    """Refuse what does not hold together, or is over a limit: as a whole, or as one of its runs.

    Raises:
        EngineError: with the pointer of the axis or value, the combination, and the estimate and the limit.
    """
    check_combinations(spec, settings)  # first: the rest takes longer the more there are
    spec.check(partial(check_whole_run, settings=settings))
    check_sweep(spec, settings)


def facts(spec: SweepSpec, settings: Settings) -> Mapping[str, Any]:
    """What can be said of a sweep before it starts."""
    return {
        "threads": settings.job_threads,
        "axes": to_jsonable(spec.axes),
        "combine": spec.combine,
        "plan": spec.plan(),
    }


def disk_bytes(spec: SweepSpec) -> float:
    """Of the rows and the numbers behind them, in two checkpoints and in the events."""
    return 3.0 * float(spec.plan()["bytes_kept"])


def as_json(table: Mapping[str, Any], spec: Any) -> Iterator[bytes]:
    """The table and the sweep that it came from."""
    yield dumps({**table, "spec": spec}).encode() + b"\n"


def as_csv(table: Mapping[str, Any], _spec: Any) -> Iterator[bytes]:
    """A row a combination: the axes by their pointers, then `kernel_change`, `kernel_change_low`, ..."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    fields = [axis["field"] for axis in table["axes"]]
    measures = [name + end for name in MEASURES for end in PARTS.values()]
    rows.writerow(["index", *fields, "outcome", "members", "diverged", *measures, "error"])
    rows.writerows(_cells(row) for row in table["rows"])
    yield text.getvalue().encode()


def _cells(row: Mapping[str, Any]) -> Sequence[Any]:
    values = [value if isinstance(value, int | float | str) else dumps(value) for value in row["values"]]
    numbers = [(row[name] or {}).get(part) for name in MEASURES for part in PARTS]
    about = [row[name] for name in ("outcome", "members", "diverged")]
    return [row["index"], *values, *about, *numbers, row["error"]]


FORMATS = {"csv": ("text/csv; charset=utf-8; header=present", as_csv), "json": ("application/json", as_json)}
"""Media types, and what writes them."""
