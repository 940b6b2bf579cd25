"""Waking the readers of a job, from any thread, after a commit."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Notifier:
    """Who reads which job in this process. Carries no data: readers look into the store."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say in which loop the readers wait."""
        self._loop = loop

    def notify(self, job_id: str) -> None:
        """Wake all readers of the job; safe from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody reads any more
                self._loop.call_soon_threadsafe(self._wake, job_id)

    def _wake(self, job_id: str) -> None:
        for event in self._readers.get(job_id, ()):
            event.set()

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
