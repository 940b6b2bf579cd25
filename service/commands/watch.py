"""`ntk watch` and `ntk cancel`: runs that were started before."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from service.commands import live, run
from service.commands.common import AsJson, Key, ServiceUrl, telling, the_service
from service.commands.terminal import err

RunSource = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's id, or a file (- for standard input) of the events that `ntk run` prints.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(watch)
    app.command()(cancel)


def watch(source: RunSource, url: ServiceUrl = None, key: Key = None, as_json: AsJson = False) -> None:
    """Watch a run from its first event, whenever it was started."""
    if is_file(source):
        with telling(None):
            live.show(events_in(source), as_json=as_json)
        return
    with the_service(url, key) as client:
        found = client.attach(source)
        found.status()  # who does not answer is told of in seconds; a stream is waited for by minutes
        run.watch(found, url, as_json=as_json)


def cancel(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    url: ServiceUrl = None,
    key: Key = None,
) -> None:
    """Stop a run of a service; what it recorded is kept."""
    with the_service(url, key) as client:
        status = client.attach(run_id).cancel().status
    err.print(f"Run {run_id}: {status}.")


def is_file(source: str) -> bool:
    """Whether events are read, rather than asked for.

    Raises:
        typer.BadParameter: it is neither a file nor, with its dots or slashes, the id of a run.
    """
    if source == "-" or Path(source).is_file():
        return True
    if {".", "/"} & set(source):
        raise typer.BadParameter(f"there is no file {source}", param_hint="RUN")
    return False


def events_in(source: str) -> Iterator[Mapping[str, Any]]:
    """The events of a file, as they come."""
    lines = sys.stdin if source == "-" else Path(source).open()  # noqa: SIM115 (closed below)
    with lines:
        for line in filter(str.strip, lines):
            try:
                event = json.loads(line)
                yield {**event, "kind": event["kind"]}
            except (ValueError, TypeError, KeyError):
                raise typer.BadParameter(
                    f"{source} holds no events, one in JSON a line, such as `ntk run` prints",
                    param_hint="RUN",
                ) from None
