"""The processes of runs: one each, found by the run's id, so that anyone can stop it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.compute.pool import NoWorker, Pool
from service.compute.worker import Worker


class ShuttingDown(BaseException):
    """The server stops: the run stays as it is and is taken up at the next start.

    Not an Exception, so that neither a handler of failures nor the job layer takes it for the run's end.
    """


class RunProcesses:
    """Which run computes in which process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._workers: dict[str, Worker] = {}
        self._changed = threading.Condition()
        self.closing = False

    @contextmanager
    def process(self, run_id: str) -> Iterator[Worker]:
        """A warm process for one attempt at the run; it is gone afterwards.

        Raises:
            ShuttingDown: the server stops.
        """
        try:
            worker = self._pool.take()
        except NoWorker:
            raise ShuttingDown from None
        with self._changed:
            self._workers[run_id] = worker
        try:
            if self.closing:
                raise ShuttingDown
            yield worker
        finally:
            worker.close()
            with self._changed:
                self._workers.pop(run_id, None)
                self._changed.notify_all()

    def stop(self, run_id: str) -> None:
        """Kill the run's process, if it has one here, and wait until it has been let go."""
        with self._changed:
            worker = self._workers.get(run_id)
            if worker is not None:
                worker.kill()
                self._changed.wait_for(lambda: self._workers.get(run_id) is not worker, timeout=10)

    def close(self) -> None:
        """Kill the processes of all runs; the runs stay as they are."""
        self.closing = True
        with self._changed:
            for worker in self._workers.values():
                worker.kill()
            self._changed.wait_for(lambda: not self._workers, timeout=10)
