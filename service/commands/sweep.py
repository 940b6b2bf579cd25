"""`ntk sweep`: a run with many values of some of its fields, as one table, made here or by a service."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.common import (
    AsJson,
    Changes,
    Key,
    SpecSource,
    Url,
    answer,
    check_out,
    experiments_of,
    read,
    service_at,
    spec_of,
    write,
)
from service.commands.jobs import result_of, shown

if TYPE_CHECKING:
    from rich.console import RenderableType

SUFFIXES = (".csv", ".json")
COLUMNS = {
    "loss": "loss",
    "loss_test": "test loss",
    "kernel_change": "kernel change",
    "weight_change": "weight change",
    "linearization_error": "f - f_lin",
    "steps": "steps",
}
Axes = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        metavar="FIELD=VALUES",
        help="Add an axis: /model/layers/0/width=[32,128,512]. FIELD is a JSON pointer into the run, VALUES "
        "a list in JSON. Repeat it for more.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(sweep)


def sweep(
    spec: SpecSource,
    axis: Axes = None,
    changes: Changes = None,
    out: Annotated[Path | None, typer.Option(help="File for the table: .csv or .json.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Train a run with every combination of some of its fields' values, and compare them in one table.

    The spec is what `POST /sweeps` takes; an experiment's name stands for its run, to which --axis adds what
    is varied.
    """
    check_out(out, *SUFFIXES)
    with service_at(url, key) as client:
        known = experiments_of(client)
        asked = read(spec, changes, lambda: {name: {"run": run, "axes": []} for name, run in known().items()})
        body = with_axes(asked.spec, axis or [])
        table = _here(body) if client is None else result_of(client.sweep(body), "table")
    if out is not None:
        from service.runs.sweeps import FORMATS

        write(out, FORMATS[out.suffix.removeprefix(".")][1](table, body))
    answer(table, lambda: readable(table), as_json=as_json)


def with_axes(body: Any, axes: list[str]) -> Any:
    """The spec with further axes."""
    return {**body, "axes": [*body.get("axes", []), *map(parsed, axes)]} if axes else body


def parsed(text: str) -> dict[str, Any]:
    """`/seed=[0,1]` as an axis."""
    field, equals, values = text.partition("=")
    try:
        found = json.loads(values)
    except ValueError:
        found = None
    if not (equals and isinstance(found, list)):
        example = "/model/layers/0/width=[32,128,512]"
        raise typer.BadParameter(f"{text!r} is not FIELD=VALUES, such as {example}", param_hint="--axis")
    return {"field": field, "values": found}


def _here(body: Any) -> Any:
    import torch

    from ntkengine.sweeps import SweepSpec
    from ntkengine.sweeps import sweep as steps_of

    asked = spec_of(SweepSpec, body)
    torch.set_num_threads(1)  # as in the service: the same numbers
    table = None
    for step in shown((step.progress, step) for step in steps_of(asked)):
        table = step.result
    return table


def readable(table: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The table, and a line for each exponent."""
    from rich.table import Table
    from rich.text import Text

    shown_columns = [name for name in COLUMNS if any(row[name] for row in table["rows"])]
    found = Table(box=None, pad_edge=False)
    for axis in table["axes"]:
        found.add_column(axis["field"].removeprefix("/"), justify="right")
    for name in ("outcome", *(COLUMNS[name] for name in shown_columns)):
        found.add_column(name, justify="right")
    for row in table["rows"]:
        found.add_row(*map(value, row["values"]), outcome(row), *(cell(row[name]) for name in shown_columns))
    yield found
    for each in table["exponents"]:
        yield Text(exponent(each))
    if any(row["members"] > 1 for row in table["rows"]):
        yield Text("Numbers are medians over seeds; --json has their intervals.")


def value(of: Any) -> str:
    """A value of an axis; an object that has a kind by that, and what else it says."""
    if isinstance(of, Mapping) and "kind" in of:
        more = ", ".join(f"{name} {value(part)}" for name, part in of.items() if name != "kind")
        return f"{of['kind']} ({more})" if more else str(of["kind"])
    return of if isinstance(of, str) else json.dumps(of)


def outcome(row: Mapping[str, Any]) -> str:
    """How a row ended, and how many of its members diverged, if not all."""
    if row["error"] is not None:
        return str(row["error"])
    some = 0 < row["diverged"] < row["members"]
    return f"{row['diverged']} of {row['members']} diverged" if some else str(row["outcome"])


def cell(of: Mapping[str, Any] | None) -> str:
    """A median."""
    return "-" if of is None else f"{of['median']:.3g}"


def exponent(of: Mapping[str, Any]) -> str:
    """An exponent in a line."""
    interval = "" if of["low"] is None else f" ({of['low']:.2f} to {of['high']:.2f})"
    where = "".join(f", {field.removeprefix('/')} {value(at)}" for field, at in of["at"].items())
    said = COLUMNS[of["of"]]
    return f"{said} goes as {of['field'].removeprefix('/')} to the power {of['slope']:.2f}{interval}{where}"
