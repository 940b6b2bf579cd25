"""`ntk verify`: what the engine claims, measured here and now."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from service.commands.common import AsJson, print_json, wants_json
from service.commands.terminal import err, out

MOST_PROCESSES = 4


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(verify)


def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer networks: a minute, not ten.")] = False,
    only: Annotated[str, typer.Option(help="Only the claims with these words.")] = "",
    as_json: AsJson = False,
) -> None:
    """Measure every number that theory states for these networks; fail if one does not hold."""
    from ntkengine.verify import FULL, QUICK
    from ntkengine.verify import verify as measured

    lines = []
    processes = 1 if only else min(len(os.sched_getaffinity(0)), MOST_PROCESSES)
    for line in measured(QUICK if quick else FULL, only, processes):
        lines.append(line)
        if wants_json(as_json):
            print_json(asdict(line))
            continue
        out.print("ok   " if line.holds else "FAILS", style="green" if line.holds else "bold red", end=" ")
        out.print(f"{line.about}  ({line.seconds:.1f} s)")
        out.print(f"        expected  {line.expected}\n        measured  {line.measured}")
    failed = [line for line in lines if not line.holds]
    if not lines:
        raise typer.BadParameter(f"no claim has the words {only!r}", param_hint="--only")
    err.print(f"{len(lines) - len(failed)} of {len(lines)} claims hold.")
    raise typer.Exit(1 if failed else 0)
