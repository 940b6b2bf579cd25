"""Processes that are warm before there is work for them, and the standard executor on top."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from resource import RLIM_INFINITY
from typing import Any

from service.compute.worker import Launcher, Warm, Worker, WorkerDied

logger = logging.getLogger(__name__)


class NoWorker(Exception):
    """No process became free in time."""


class Pool:
    """Keeps `size` processes of at most `memory` bytes that wait for work or come back from it."""

    def __init__(self, warm: Warm, size: int, memory: int = RLIM_INFINITY) -> None:
        self._launcher = Launcher(warm, memory)
        self._size = size
        self._idle: deque[Worker] = deque()
        self._warm: set[Worker] = set()
        self._changed = threading.Condition()
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to warm the processes; returns at once."""
        for _ in range(self._size):
            self._add_one()

    def live(self) -> int:
        """How many processes there are, at work or waiting for it."""
        with self._changed:
            self._warm = {worker for worker in self._warm if worker.alive()}
            return len(self._warm)

    def take(self) -> Worker:
        """A warm process, for good: another is started in its place. Waits until there is one."""
        self._add_one()
        return self._pop(None)

    @contextmanager
    def lend(self, timeout: float) -> Iterator[Worker]:
        """A warm process for a while; if it does not come back idle it is replaced.

        Raises:
            NoWorker: none became free in `timeout` seconds.
        """
        worker = self._pop(timeout)
        try:
            yield worker
        finally:
            if worker.idle and worker.alive():
                self._push(worker)
            else:
                worker.close()
                self._add_one()

    def close(self) -> None:
        """Kill all processes, and start no more."""
        with self._changed:
            self._closed.set()
            for worker in self._warm:
                worker.kill()
            while self._idle:
                self._idle.pop().close()
            self._changed.notify_all()
        self._launcher.close()

    def _pop(self, timeout: float | None) -> Worker:
        with self._changed:
            while True:
                if not self._changed.wait_for(lambda: self._idle or self._closed.is_set(), timeout):
                    raise NoWorker("all processes are busy")
                if self._closed.is_set():
                    raise NoWorker("the pool is closed")
                worker = self._idle.popleft()
                if worker.alive():
                    return worker
                worker.close()
                self._add_one()

    def _push(self, worker: Worker) -> None:
        with self._changed:
            if not self._closed.is_set():
                self._idle.append(worker)
                self._changed.notify()
                return
        worker.close()

    def _add_one(self) -> None:
        threading.Thread(target=self._warm_one, name="warming", daemon=True).start()

    def _warm_one(self) -> None:
        while not self._closed.is_set():
            try:
                worker = self._launcher.start()
            except (WorkerDied, OSError) as death:
                if self._closed.is_set():
                    return
                logger.warning("a new process did not come up (%s); trying again", death)
                time.sleep(1)
            except RuntimeError:  # the launcher was closed meanwhile
                return
            else:
                with self._changed:
                    self._warm.add(worker)
                self._push(worker)
                return


class ProcessExecutor(Executor):
    """The standard executor interface over a pool: `submit(task, message)` with a module-level function."""

    def __init__(self, pool: Pool, threads: int, patience: float) -> None:
        self._pool = pool
        self._patience = patience
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="kernel")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn(message)` in a process; the future holds its answer, or raises as `Worker.call` does.

        A call that takes longer than `patience` seconds loses its process and raises TimeoutError. With a
        context manager `during`, the process works within it.
        """
        return self._threads.submit(self._call, fn, *args, **kwargs)

    def _call(
        self, task: Callable[..., Any], request: Any, during: AbstractContextManager[object] | None = None
    ) -> Any:
        with self._pool.lend(self._patience) as worker, during or nullcontext():
            return worker.call(task, request, self._patience)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
