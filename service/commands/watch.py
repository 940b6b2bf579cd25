"""`ntk watch` and `ntk cancel`: runs that were started before."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from service.commands import live, run
from service.commands.common import AsJson, Key, Url, service_at
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


def watch(source: RunSource, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Watch a run from its first event, whenever it was started."""
    if is_file(source):
        with service_at(None, None):
            live.show(events_in(source), as_json=as_json)
        return
    with service_at(url_of(url), key) as client:
        if client is not None:
            found = client.attach(source)
            found.status()  # who does not answer is told of in seconds; a stream is waited for by minutes
            run.watch(found, url, as_json=as_json)


def cancel(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    url: Url = None,
    key: Key = None,
) -> None:
    """Stop a run of a service; what it recorded is kept."""
    with service_at(url_of(url), key) as client:
        if client is not None:
            status = client.attach(run_id).cancel().status
            err.print(f"Run {run_id}: {status}.")


def url_of(url: str | None) -> str:
    """The service that a run's id is looked for at, if no other was named."""
    from service.client.settings import DEFAULT_URL

    return url or DEFAULT_URL


def is_file(source: str) -> bool:
    """Whether events are read, rather than asked for."""
    return source == "-" or Path(source).is_file()


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
