"""Servers and workers that share a database and a data directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.service.server import PATIENCE, Server, eventually

QUICK = {"NTK_LEASE_SECONDS": "1.5", "NTK_WARM_PROCESSES": "1", "NTK_DATABASE_CONNECTIONS": "5"}


class Worker:
    """A process that takes jobs and serves nothing."""

    def __init__(self, directory: Path, name: str, work: str, **environment: str) -> None:
        self.log = directory / f"{name}.log"
        self._command = [sys.executable, "-m", "tests.service.work", work]
        self._environment = {"NTK_DATA_DIR": str(directory / "data"), "NTK_LOG_LEVEL": "info", **environment}

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        with self.log.open("a") as log:
            environment = {**os.environ, **self._environment}
            self._process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)
        eventually(self._works)

    def _works(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        return "takes jobs" in self.log.read_text()

    def attempts(self, run_id: str) -> list[int]:
        """The processes in which it has computed the run."""
        return [
            int(pid) for pid in re.findall(rf"run {re.escape(run_id)}: process (\d+)", self.log.read_text())
        ]

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
