"""A run as it goes: a bar and, at the end, what came of it; for programs a line of JSON for each event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from service.commands.common import facts_table, print_json, wants_json
from service.commands.terminal import err, out

if TYPE_CHECKING:
    from rich.progress import Progress

Event = Mapping[str, Any]
FINAL = frozenset({"finished", "failed", "cancelled"})


class Live:
    """What is known of a run from its events."""

    def __init__(self) -> None:
        self.points = 0
        self.first: dict[str, Any] = {}
        """The first value of each quantity that is one number a member."""
        self.last: dict[str, Any] = {}
        self.place: dict[str, Any] = {}
        self.end: Event | None = None
        """The last event of a run that has ended."""

    def see(self, event: Event) -> None:
        """Take in an event."""
        if event["kind"] == "point":
            self.points += 1
            self.place = {name: event[name] for name in ("step", "time") if event[name] is not None}
            numbers = {
                name: event[name] for name in ("loss", "loss_test", "kernel_distance") if name in event
            }
            self.first = numbers | self.first
            self.last |= numbers
        elif event["kind"] in FINAL:
            self.end = event

    @property
    def line(self) -> str:
        """The loss, and how far the kernel has moved."""
        names = {"loss": "loss", "kernel_distance": "kernel moved"}
        return "  ".join(
            f"{said} {number(self.last[name])}" for name, said in names.items() if name in self.last
        )

    @property
    def summary(self) -> dict[str, Any]:
        """How it ended."""
        end = self.end or {"kind": "interrupted"}
        moved = {name: f"{number(self.first[name])} -> {number(self.last[name])}" for name in self.last}
        detail = end.get("detail") or {}
        return {
            "outcome": end.get("outcome") or end["kind"],
            "points": self.points,
            **self.place,
            **moved,
            **detail,
        }


def number(value: Any) -> str:
    """A number, or the median of several members."""
    import numpy as np

    found = f"{np.median(value):.4g}"
    return f"{found} (median of {np.size(value)})" if np.ndim(value) else found


def show(events: Iterable[Event], *, as_json: bool) -> Live:
    """Show events as they come, until the last.

    Raises:
        typer.Exit: the run failed or was cancelled.
    """
    live = Live()
    with _bar(as_json=as_json) as bar:
        task = bar.add_task("", total=1.0, said="", left=None)
        for event in events:
            live.see(event)
            if wants_json(as_json):
                print_json(event)
            if event["kind"] == "progress":
                left = event.get("seconds_left")
                bar.update(task, completed=event["fraction"], said=live.line, left=left)
            elif event["kind"] == "finished":
                bar.update(task, completed=1.0, said=live.line, left=0.0)
    if not wants_json(as_json):
        out.print(facts_table(live.summary))
    _judge(live)
    return live


@contextmanager
def _bar(*, as_json: bool) -> Iterator[Progress]:
    """On the terminal, unless JSON goes there."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    shown = err.is_terminal and not (as_json and out.is_terminal)
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[said]}"), _time_left())
    with Progress(*columns, console=err, disable=not shown, refresh_per_second=8) as bar:
        yield bar


def _time_left() -> Any:
    """The run's own estimate, which knows of recording and of interruptions."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        def render(self, task: Task) -> Text:
            left = task.fields["left"]
            return Text("" if left is None else f"{duration(left)} left", style="cyan")

    return TimeLeft()


def duration(seconds: float) -> str:
    """About so long."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _judge(live: Live) -> None:
    end = live.end or {}
    if end.get("kind") == "failed":
        error = end["error"]
        place = f" ({error['pointer']})" if error.get("pointer") else ""
        err.print(f"Error: {error['detail']}{place}", style="red")
        if error.get("hint"):
            err.print(f"  {error['hint']}")
    if end.get("kind") in {"failed", "cancelled"}:
        raise typer.Exit(1)
