"""Servers and workers that share a database and a data directory."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.service.server import PATIENCE, Server, eventually
from tests.service.stable import started

QUICK = {"NTK_LEASE_SECONDS": "1.5", "NTK_WARM_PROCESSES": "1", "NTK_DATABASE_CONNECTIONS": "5"}


class Worker:
    """A process that takes jobs and serves nothing; `prefix` is a command that starts it elsewhere."""

    def __init__(
        self, directory: Path, name: str, work: str, prefix: Sequence[str] = (), **environment: str
    ) -> None:
        self.log = directory / f"{name}.log"
        self._work = work
        self._prefix = prefix
        self._environment = {"NTK_DATA_DIR": str(directory / "data"), "NTK_LOG_LEVEL": "info", **environment}
        self._starts = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def launch(self) -> None:
        """Start it; `ready` says when it works."""
        self._starts += 1
        self._process = started("tests.service.work", self._work, self._environment, self.log, self._prefix)

    def ready(self) -> None:
        eventually(self._works, patience=90)

    def _works(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        return self.log.read_text().count("takes jobs") == self._starts

    def attempts(self, run_id: str) -> list[int]:
        """The processes in which it has computed the run."""
        found = re.findall(rf"(?:run|kernel) {re.escape(run_id)}: process (\d+)", self.log.read_text())
        return [int(pid) for pid in found]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(PATIENCE)


class Replica(Server):
    """A server that computes nothing. Several share a directory, so each has a log of its own."""

    def __init__(self, directory: Path, name: str, **environment: str) -> None:
        super().__init__(directory, "double", NTK_WORK="0", **environment)
        self.log = directory / f"{name}.log"


@dataclass(frozen=True)
class Fleet:
    """Two replicas, of which tests ask the first and read from the second, and two workers."""

    first: Replica
    second: Replica
    workers: tuple[Worker, Worker]

    def start(self) -> None:
        for worker in self.workers:
            worker.launch()
        self.first.start()
        self.second.start()
        for worker in self.workers:
            worker.ready()

    def at_work(self, run_id: str, points: int) -> tuple[Worker, Worker]:
        """Who computes the run, once it has recorded so many points, and the other worker."""
        self.first.reach(run_id, points)
        one, two = self.workers
        return (one, two) if one.attempts(run_id) else (two, one)

    def stop(self) -> list[int]:
        members: list[Worker | Replica] = [*self.workers, self.first, self.second]
        with ThreadPoolExecutor(len(members)) as threads:
            codes = list(threads.map(lambda member: member.stop(), members))
        self.first.client.close()
        self.second.client.close()
        return codes

    def kill(self) -> None:
        """End what is left of it, after a failure."""
        for member in (*self.workers, self.first, self.second):
            with suppress(AttributeError):  # it was never started
                member.kill()
