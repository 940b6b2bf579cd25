"""The processes that share a database look after each other's jobs.

Each counts its beat on. Who sees that another's has not changed for as long as the lease, by its own clock of
elapsed time, takes that process for lost and has its jobs queued again. That judgement may be wrong, for a
process that was only stopped or cut off: it does no harm, since who drives a job needs a turn, and only the
last turn can change it.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator

from service.compute.durable import DurableQueue
from service.compute.processes import JobProcesses
from service.runs.clock import days_ago, now
from service.runs.states import ACTIVE, Status
from service.store.database import TRANSIENT
from service.store.jobs import JobStore
from service.store.processes import Process, ProcessStore

DAYS_KNOWN = 1.0  # a process that was lost may come back, and take jobs again, before it counts again
ROUNDS_IN_A_LEASE = 5
logger = logging.getLogger(__name__)


def new_name() -> str:
    """A name for this process that no other ever had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Neighbours:
    """Says that this process lives, and watches the others."""

    def __init__(
        self,
        name: str,
        known: ProcessStore,
        jobs: JobStore,
        queue: DurableQueue,
        processes: JobProcesses,
        lease: float,
    ) -> None:
        self._name = name
        self._known = known
        self._jobs = jobs
        self._queue = queue
        self._processes = processes
        self._lease = lease
        self._heard = time.monotonic()
        self._watched: dict[str, tuple[int, float]] = {}  # the last beat, and when it was new

    @property
    def seconds(self) -> float:
        """How often to make a round."""
        return min(1.0, self._lease / ROUNDS_IN_A_LEASE)

    def round(self) -> None:
        """Count on, drop what has ended elsewhere, take over from who is silent."""
        try:
            self._known.count_on(self._name, now())
            self._heard = time.monotonic()
            self._drop_what_has_ended()
            for process in list(self._silent()):
                if self._known.claim(process):
                    self._take_over(process)
        except TRANSIENT as error:
            logger.warning("the database cannot be reached: %s", error)
            self._watched.clear()  # who is blind must not take others for silent
            if time.monotonic() - self._heard > self._lease:  # others compute our jobs now
                self._kill(self._processes.jobs())

    def leave(self) -> None:
        """Say that this process is gone: what it leaves is taken over at once."""
        try:
            self._known.count_on(self._name, now(), left=True)
        except TRANSIENT:
            logger.warning("the database cannot be reached: jobs are taken over when the lease ends")

    def _drop_what_has_ended(self) -> None:
        """Should the signal to stop a job have been lost."""
        if mine := self._processes.jobs():  # asked for first: one that begins meanwhile is not missed
            self._kill(set(mine) - set(self._jobs.ids_with_status([Status.RUNNING])))

    def _kill(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            self._processes.kill(job_id)

    def _silent(self) -> Iterator[Process]:
        moment = time.monotonic()
        before, self._watched = self._watched, {}
        for process in self._known.all():
            beat, since = before.get(process.id, (process.beat, moment))
            since = since if beat == process.beat else moment
            self._watched[process.id] = (process.beat, since)
            if process.id != self._name and (process.left or moment - since > self._lease):
                yield process

    def _take_over(self, process: Process) -> None:
        self._queue.take_over(process.id)
        self._queue.ensure_all(self._jobs.ranks_with_status(ACTIVE))
        self._known.forget(process.id, now() if process.left else days_ago(DAYS_KNOWN))
