"""`ntk export`: all that a run recorded, as one file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from service.commands.common import Key, ServiceUrl, check_out, telling, the_service, write
from service.commands.terminal import err, give_up

SUFFIXES = (".npz", ".csv", ".json")
ABOUT = ("experiment", "rate_factor", "time_per_step", "time_unit", "members", "outcome", "detail")


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(export)


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run's id, or a file (- for standard input) of the events that `ntk run` prints.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file: .npz, .csv or .json.")],
    url: ServiceUrl = None,
    key: Key = None,
) -> None:
    """Write all that a run recorded into one file, with its spec."""
    from service.commands.watch import events_in, is_file

    check_out(out, *SUFFIXES)
    if is_file(source):
        with telling(None):
            for _ in keep(events_in(source), out):
                pass
    else:
        with the_service(url, key) as client:
            write(out, [client.attach(source).export(out.suffix.removeprefix("."))])
    err.print(f"Written to {out}.")


def keep(events: Iterable[Mapping[str, Any]], path: Path) -> Iterator[Mapping[str, Any]]:
    """Pass events on; when they end, also by an interruption, write what they told into a file."""
    from service.runs.export import FORMATS, Recorded

    about: dict[str, Any] = {"status": "interrupted"}
    spec = None
    with Recorded() as recorded:
        try:
            for event in events:
                about |= {name: event[name] for name in ABOUT if name in event}
                spec = event.get("spec", spec)
                if event["kind"] == "point":
                    recorded.add(event, _not_here)
                elif event["kind"] == "finished":
                    about["status"] = "succeeded"
                yield event
        finally:
            write(path, FORMATS[path.suffix.removeprefix(".")].write(recorded, about, spec))


def _not_here(_reference: Any) -> Any:
    raise give_up("Large arrays of a service's run are not in its events: export the run by its id.")
