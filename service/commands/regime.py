"""`ntk regime`: whether a network is in the kernel regime, measured here or by a service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer

from service.commands.common import (
    AsJson,
    Changes,
    Key,
    SpecSource,
    Url,
    answer,
    experiments_of,
    read,
    service_at,
    spec_of,
)
from service.commands.jobs import result_of, shown

if TYPE_CHECKING:
    from rich.console import RenderableType

COLOURS = {"lazy": "green", "rich": "magenta", "between": "yellow", "undetermined": "red"}
COLUMNS: dict[str, Any] = {
    "verdict": lambda row: row["verdict"],
    "kernel change": lambda row: row["kernel_change"],
    "f - f_lin, train": lambda row: row["linearization_error"]["train"],
    "f - f_lin, test": lambda row: row["linearization_error"]["test"],
    "weight change": lambda row: row["weight_change"],
    "trained": lambda row: row["trained_share"],
    "test error": lambda row: row["test_error"]["network"],
    "by the kernel": lambda row: row["test_error"]["kernel"],
}


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(regime)


def regime(
    spec: SpecSource,
    changes: Changes = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a network trains as its kernel foretells, how far to trust that, and when it breaks.

    The spec is what `POST /regime` takes; an experiment's name stands for its network, data and training.
    """
    with service_at(url, key) as client:
        asked = read(spec, changes, lambda: {n: of_run(s) for n, s in experiments_of(client)().items()})
        report = _here(asked.spec) if client is None else result_of(client.regime(asked.spec), "report")
    answer(report, lambda: readable(report), as_json=as_json)


def of_run(run: Any) -> Any:
    """What is asked about an experiment."""
    return {name: run[name] for name in ("model", "data", "training")}


def _here(body: Any) -> Any:
    from ntkengine.regime import RegimeSpec, regime_report

    asked = spec_of(RegimeSpec, body)
    asked.check()
    report = None
    for step in shown((step.progress, step) for step in regime_report(asked)):
        report = step.report
    return report


def readable(report: Any) -> Iterator[RenderableType]:
    """The verdict, its reasons, and a table of widths."""
    from rich.table import Table
    from rich.text import Text

    yield Text(report["verdict"], style=f"bold {COLOURS[report['verdict']]}")
    yield from (Text(reason) for reason in report["reasons"])
    table = Table(box=None, pad_edge=False)
    table.add_column("width", justify="right")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for row in report["widths"]:
        table.add_row(str(row["width"]), *(cell(of(row)) for of in COLUMNS.values()))
    yield table
    yield Text("Numbers are medians over seeds; --json has their intervals.")
    for each in report["assumptions"]:
        if not each["holds"]:
            yield Text(f"Note: the theory assumes {each['assumption'].replace('_', ' ')}; {each['detail']}.")


def cell(value: Any) -> str:
    """A median, or a word."""
    if not isinstance(value, Mapping):
        return "-" if value is None else str(value)
    return f"{value['median']:.3g}"
