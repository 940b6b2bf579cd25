"""The processes of jobs: one each, found by the job's id, so that anyone can stop it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.compute.pool import NoWorker, Pool
from service.compute.worker import Worker


class ShuttingDown(BaseException):
    """The server stops: the job stays as it is and is taken up at the next start.

    Not an Exception, so that neither a handler of failures nor the job layer takes it for the job's end.
    """


class JobProcesses:
    """Which job computes in which process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._workers: dict[str, Worker] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()

    @property
    def closing(self) -> bool:
        """Whether no job will be computed here any more."""
        return self._closing.is_set()

    def jobs(self) -> list[str]:
        """Those that compute here."""
        with self._changed:
            return list(self._workers)

    @contextmanager
    def process(self, job_id: str) -> Iterator[Worker]:
        """A warm process for one attempt at the job; it is gone afterwards.

        Raises:
            ShuttingDown: the server stops.
        """
        try:
            worker = self._pool.take()
        except NoWorker:
            raise ShuttingDown from None
        with self._changed:
            self._workers[job_id] = worker
        try:
            if self.closing:
                raise ShuttingDown
            yield worker
        finally:
            worker.close()
            with self._changed:
                if self._workers.get(job_id) is worker:  # or a later attempt has begun here already
                    del self._workers[job_id]
                self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            ShuttingDown: the server stops.
        """
        if self._closing.wait(seconds):
            raise ShuttingDown

    def kill(self, job_id: str) -> None:
        """Kill the job's process, if it has one here."""
        with self._changed:
            worker = self._workers.get(job_id)
            if worker is not None:
                worker.kill()

    def stop(self, job_id: str) -> None:
        """Kill the job's process, if it has one here, and wait until it has been let go."""
        with self._changed:
            worker = self._workers.get(job_id)
            if worker is not None:
                worker.kill()
                self._changed.wait_for(lambda: self._workers.get(job_id) is not worker, timeout=10)

    def close(self) -> None:
        """Kill the processes of all jobs; the jobs stay as they are."""
        self._closing.set()
        with self._changed:
            for worker in self._workers.values():
                worker.kill()
            self._changed.wait_for(lambda: not self._workers, timeout=10)
