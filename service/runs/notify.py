"""Telling those whom a job concerns: its readers, and the process that computes it, here or elsewhere."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from service.store.signals import Alone, Signals

CHANGED = "changed"
STOP = "stop"


class Notifier:
    """Who reads which job in this process, and a line to the others. Carries no data: readers look into the
    store."""

    def __init__(self, signals: Signals | None = None) -> None:
        self._signals = signals or Alone()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say in which loop the readers wait."""
        self._loop = loop

    def start(self, stop_job: Callable[[str], None]) -> None:
        """Begin to hear from other processes; `stop_job` ends the process of a job that one of them ended."""

        def receive(topic: str, job_id: str) -> None:
            hearers[topic](job_id)

        hearers = defaultdict(lambda: _ignore, {CHANGED: self._wake_soon, STOP: stop_job})
        self._signals.start(receive, self._wake_all_soon)

    def stop(self) -> None:
        """Hear no more."""
        self._signals.stop()

    def notify(self, job_id: str) -> None:
        """Wake all readers of the job, wherever they read; safe from any thread."""
        self._wake_soon(job_id)
        self._signals.send(CHANGED, job_id)

    def stop_elsewhere(self, job_id: str) -> None:
        """Have the process that computes the job, should that be another machine's, end now."""
        self._signals.send(STOP, job_id)

    def _wake_soon(self, job_id: str) -> None:
        self._in_loop(lambda: self._wake(job_id))

    def _wake_all_soon(self) -> None:
        self._in_loop(self._wake_all)

    def _in_loop(self, what: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody reads any more
                self._loop.call_soon_threadsafe(what)

    def _wake(self, job_id: str) -> None:
        for event in self._readers.get(job_id, ()):
            event.set()

    def _wake_all(self) -> None:
        for job_id in self._readers:
            self._wake(job_id)

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set after each change of the job. Clear it, then read, then wait."""
        event = asyncio.Event()
        self._readers[job_id].add(event)
        try:
            yield event
        finally:
            self._readers[job_id].discard(event)
            if not self._readers[job_id]:
                del self._readers[job_id]


def _ignore(job_id: str) -> None:
    """A newer program may send what this one does not know."""
