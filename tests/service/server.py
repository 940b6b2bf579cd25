"""A real server in a process of its own, for tests that watch it from outside, kill it and start it again."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.service.stable import started

T = TypeVar("T")
PATIENCE = 30.0

JSONObject = dict[str, Any]


def eventually(probe: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """What `probe` returns once that is true."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{probe} did not come true in {patience} seconds")


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def descendants(pid: int) -> list[int]:
    """The processes started by `pid`, from whichever thread, and those that they started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return children + [each for child in children for each in descendants(child)]


class Server:
    """A server that works with the engine or the double, with settings of its own."""

    def __init__(self, data_dir: Path, work: str, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.log = data_dir / "server.log"
        self._work = work
        self._environment = {
            "NTK_DATA_DIR": str(data_dir / "data"),
            "NTK_PORT": str(self.port),
            "NTK_LOG_LEVEL": "info",
            **environment,
        }
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE)

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self) -> None:
        self.process = started("tests.service.serve", self._work, self._environment, self.log)
        eventually(self._ready, patience=90)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.client.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.client.close()
        self.kill()

    def create(self, body: JSONObject, **headers: str) -> str:
        answer = self.client.post("/runs", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def show(self, run_id: str, **query: Any) -> JSONObject:
        answer = self.client.get(f"/runs/{run_id}", params=query)
        assert answer.status_code == 200, answer.text
        found: JSONObject = answer.json()
        return found

    def events(self, run_id: str, after: int = -1) -> Iterator[JSONObject]:
        """The run's events as they arrive, until its end."""
        return self.events_of(f"/runs/{run_id}", after)

    def events_of(self, path: str, after: int = -1) -> Iterator[JSONObject]:
        """The events of a job of any kind as they arrive, until its end."""
        headers = {"Accept": "application/x-ndjson"}
        with self.client.stream("GET", f"{path}/events", params={"after": after}, headers=headers) as answer:
            for line in answer.iter_lines():
                if line:
                    yield json.loads(line)

    def process_of(self, run_id: str, attempt: int = 1) -> int:
        """The process of the run's n-th attempt, once it has begun."""

        def begun() -> int | None:
            pids = self.processes_of(run_id)
            return pids[attempt - 1] if len(pids) >= attempt else None

        return eventually(begun)

    def processes_of(self, run_id: str) -> list[int]:
        """The processes of all attempts so far."""
        found = re.findall(rf"(?:run|kernel|sweep) {re.escape(run_id)}: process (\d+)", self.log.read_text())
        return [int(pid) for pid in found]

    def reach(self, run_id: str, points: int) -> None:
        """Return when the run has recorded so many points."""
        eventually(lambda: self.show(run_id, fields="")["progress"]["points"] >= points)
