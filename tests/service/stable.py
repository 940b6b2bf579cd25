"""Servers and workers that are forked from a process which has loaded the service once: an import takes 2 s.

What a new program alone would heed, as `LD_PRELOAD`, needs one: see `started`.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

FORKS = get_context("forkserver")
# pytest, because each child imports the program that its parent was started as.
FORKS.set_forkserver_preload(["pytest", "tests.service.serve", "tests.service.work"])


class Process(Protocol):
    """What tests do with a process."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


def started(
    program: str, work: str, settings: Mapping[str, str], log: Path, prefix: Sequence[str] = ()
) -> Process:
    """`python -m program work` with these settings besides our own, behind the command `prefix`.

    It is a new program behind a prefix, and where a setting is not one of ours: libraries may read others
    while they load.
    """
    environment = {**os.environ, **settings}
    if not prefix and all(name.startswith("NTK_") for name in settings):
        return Forked(program, work, environment, log)
    command = [*prefix, sys.executable, "-m", program, work]
    with log.open("a") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file)


class Forked:
    """Such a process, to be used as a `subprocess.Popen`."""

    def __init__(self, program: str, work: str, environment: dict[str, str], log: Path) -> None:
        log.touch()  # who waits for a line in it may look before the child has opened it
        self._process = FORKS.Process(target=become, args=(program, work, environment, log), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, sig: int, /) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def become(program: str, work: str, environment: dict[str, str], log: Path) -> None:
    """Be that program from here on."""
    os.environ.clear()
    os.environ.update(environment)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    importlib.import_module(program).main(work)
