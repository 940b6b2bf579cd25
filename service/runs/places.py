"""How many jobs of one key compute at a time. Those over it stand aside, and others go by.

Whether there is a place is decided as a job begins, not as it is queued: until then one of the same key may
come that is to begin first. A job without a place is set aside, and called when one of its key has ended.
"""

from __future__ import annotations

import logging

from service.compute.durable import DurableQueue, SetAside
from service.runs.states import Status
from service.store.database import TRANSIENT
from service.store.jobs import Crowd, JobStore

logger = logging.getLogger(__name__)


class Places:
    """Of each key `most` jobs compute; None: as many as there are processes for."""

    def __init__(self, store: JobStore, queue: DurableQueue, most: int | None) -> None:
        self._store = store
        self._queue = queue
        self._most = most

    @property
    def crowd(self) -> Crowd | None:
        """What a job has to find room in to begin."""
        return None if self._most is None else Crowd([Status.RUNNING], self._most)

    def stand_aside(self, job_id: str, owner: str) -> None:
        """Set a job aside that is being called and found no place.

        Raises:
            SetAside: always.
        """
        self._queue.set_aside(job_id)
        self.call(owner)  # should a place have become free just before the job stood where it is looked for
        raise SetAside

    def call(self, owner: str | None) -> None:
        """Have jobs of this key try again, those first that are to begin first, if there are places."""
        if self._most is None or owner is None:
            return
        try:
            free = self._most - self._store.count_of(owner, [Status.RUNNING])
            if free > 0 and (first := self._store.next_of(owner, Status.QUEUED, free)):
                self._queue.call_back(first)
        except TRANSIENT as error:
            logger.warning("jobs of %s are called when the database is back: %s", owner, error)

    def call_all(self) -> None:
        """The same for all keys: for whom a process that was killed could not call any more."""
        if self._most is None:  # there may have been a limit until now
            self._queue.call_back()
        else:
            for owner in self._store.owners_with(Status.QUEUED):
                self.call(owner)
