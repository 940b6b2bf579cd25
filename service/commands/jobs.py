"""Work whose answer is waited for: a service's jobs, and a bar that shows how far they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from service.commands.terminal import err, give_up

T = TypeVar("T")
POLL_SECONDS = 0.5


def states(job: Any) -> Iterator[Mapping[str, Any]]:
    """How the job stands, until it has ended."""
    while (view := job.view())["status"] in {"queued", "running"}:
        yield view
        time.sleep(POLL_SECONDS)
    yield view


def result_of(job: Any, what: str) -> Any:
    """The result of a service's job, while a bar shows how far it is; `what` it is, in case there is none."""
    for view in shown((view["progress"]["fraction"], view) for view in states(job)):
        if view["status"] == "succeeded":
            return view["result"]
    raise give_up(f"The {what} was not made: {view['meaning']} {(view['error'] or {}).get('detail', '')}")


def shown(steps: Iterator[tuple[float, T]]) -> Iterator[T]:
    """The steps, while a bar on a terminal shows how far they are."""
    from rich.progress import Progress

    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("Training networks", total=1.0)
        for fraction, step in steps:
            bar.update(task, completed=fraction)
            yield step
