"""`ntk run`: train and watch, here or by a service."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands import live
from service.commands.common import (
    AsJson,
    Asked,
    Changes,
    Key,
    SpecSource,
    Url,
    check_out,
    experiments_of,
    read,
    service_at,
    spec_of,
    write,
)
from service.commands.export import SUFFIXES, keep
from service.commands.terminal import err

if TYPE_CHECKING:
    from ntkengine.dynamics import RunSpec
    from service.client import Client
    from service.client import Run as Remote

SEGMENT_SECONDS = 0.25
INTERRUPTED = 130  # what shells expect of what Ctrl-C has ended


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(run)


def run(
    spec: SpecSource,
    changes: Changes = None,
    out: Annotated[
        Path | None, typer.Option(help="File for all that is recorded: .npz, .csv or .json.")
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Train a network and watch it: the loss, the kernel, and what else the spec records.

    The spec is what `POST /runs` takes. Without a terminal each event is a line of JSON, which `ntk watch -`
    shows and `ntk export -` keeps.
    """
    check_out(out, *SUFFIXES)
    with service_at(url, key) as client:
        asked = read(spec, changes, experiments_of(client))
        if client is None:
            _run_here(asked, out, as_json=as_json)
        else:
            _run_there(client, asked, url, out, as_json=as_json)


def _run_here(asked: Asked, out: Path | None, *, as_json: bool) -> None:
    from ntkengine.dynamics import RunSpec

    spec = spec_of(RunSpec, asked.spec)
    spec.check()
    events: Iterable[Mapping[str, Any]] = events_of(spec, asked)
    if out is not None:
        events = keep(events, out)
    try:
        live.show(events, as_json=as_json)
    except KeyboardInterrupt:
        kept = (
            f"what it recorded so far is in {out}" if out else "--out FILE would have kept what it recorded"
        )
        err.print(f"Stopped: {kept}.")
        raise typer.Exit(INTERRUPTED) from None


def events_of(spec: RunSpec, asked: Asked) -> Iterator[dict[str, Any]]:
    """A run of this machine, as a service tells of one; with its spec, so that the events say all."""
    import torch

    from ntkengine.dynamics import train

    torch.set_num_threads(1)  # as in the service: the same numbers, and small work is not slowed down
    began = time.monotonic()
    started = {"kind": "started", **spec.facts(), "plan": spec.plan(), "experiment": asked.experiment}
    told = iter(range(2**62))
    yield {"seq": next(told), **started, "spec": asked.spec}
    for segment in train(spec, segment_seconds=SEGMENT_SECONDS):
        for point in segment.points:
            place = {"step": point.step, "time": point.time}
            yield {"kind": "point", "seq": next(told), **place, **point.values}
        done, spent = segment.progress, time.monotonic() - began
        left = spent * (1.0 - done) / done if done else None
        yield {"kind": "progress", "seq": next(told), "fraction": done, "seconds_left": left}
        if segment.outcome is not None:
            ended = {"outcome": str(segment.outcome), "detail": segment.detail}
            yield {"kind": "finished", "seq": next(told), **ended}


def _run_there(client: Client, asked: Asked, url: str | None, out: Path | None, *, as_json: bool) -> None:
    started = (
        client.run(asked.spec)
        if asked.experiment is None
        else client.run(asked.experiment, asked.overrides or None)
    )
    watch(started, url, as_json=as_json)
    if out is not None:
        write(out, [started.export(out.suffix.removeprefix("."))])


def watch(run: Remote, url: str | None, *, as_json: bool) -> None:
    """Show a service's run until it ends; Ctrl-C ends the watching only."""
    err.print(f"Run {run.id}")
    try:
        live.show((event.members for event in run.events()), as_json=as_json)
    except KeyboardInterrupt:
        there = f" --url {url}" if url else ""
        err.print("The run goes on.")
        err.print(f"  watch it:  ntk watch {run.id}{there}")
        err.print(f"  stop it:   ntk cancel {run.id}{there}")
        raise typer.Exit(INTERRUPTED) from None
