"""Servers that work with the double, whose pace a test decides, and the table of what was done to them.

`NTK_FAULT_ROUNDS` says how often each fault is injected; `make faults` sets it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from tests.faults.ledger import LEDGER, Account
from tests.service.postgres import Postgres
from tests.service.server import Server
from tests.service.several import QUICK, Fleet, Replica, Worker

PACE = {"NTK_TEST_PACE": "0.005", "NTK_SEGMENT_SECONDS": "0.15", "NTK_CONCURRENT_RUNS": "2"}
NARROW = {"NTK_JOB_BYTES": str(2**30)}
ROUNDS = int(os.environ.get("NTK_FAULT_ROUNDS", "1"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was injected, and what was lost."""
    lines = LEDGER.lines()
    if len(lines) > 1:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)


@dataclass(frozen=True)
class Database:
    """One of the two, and the settings by which a server uses it."""

    name: str
    settings: dict[str, str] = field(default_factory=dict)

    def account(self, fault: str) -> Account:
        """The row of the table for this fault."""
        return LEDGER.account(fault, self.name)


NUMBERS = count()


class Front:
    """Where clients ask: one server with SQLite, or two replicas on PostgreSQL."""

    def __init__(self, name: str, servers: Sequence[Server], fleet: Fleet | None = None) -> None:
        self.name = name
        self.servers = servers
        self.fleet = fleet

    def server(self, number: int) -> Server:
        return self.servers[number % len(self.servers)]

    def account(self, fault: str) -> Account:
        return LEDGER.account(fault, self.name)

    def attempts(self, run_id: str) -> int:
        """How often the run was begun, anywhere."""
        logs = [worker.log for worker in self.fleet.workers] if self.fleet else [self.servers[0].log]
        return sum(log.read_text().count(f"run {run_id}: process") for log in logs)


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.verify)])
def database(request: pytest.FixtureRequest) -> Database:
    """A new database."""
    if request.param == "SQLite":
        return Database("SQLite")
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.database(f"faults{next(NUMBERS)}")
    return Database("PostgreSQL", {"NTK_DATABASE_URL": url, "NTK_LEASE_SECONDS": "1.5"})


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, started, and gone afterwards."""
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> np.random.Generator:
    """Moments and bits, others in each test and the same whenever it runs."""
    return np.random.default_rng(crc32(request.node.name.encode()))


@pytest.fixture
def mortal(tmp_path: Path, database: Database) -> Iterator[Server]:
    """A server to kill."""
    more = {"NTK_WARM_PROCESSES": "1", "NTK_CRASHES_ALLOWED": "1000", "NTK_TEST_BALLAST": "1000000"}
    with running(Server(tmp_path, "double", **PACE, **more, **database.settings)) as server:
        yield server


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that no test kills."""
    server = Server(tmp_path_factory.mktemp("shared"), "double", **PACE, **NARROW)
    server.start()
    yield server
    assert server.stop() == 0, server.log.read_text()
    server.close()


@pytest.fixture(scope="package")
def fleet(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two replicas and two workers on one PostgreSQL."""
    directory = tmp_path_factory.mktemp("fleet")
    environment = {"NTK_DATABASE_URL": postgres.database("fleet"), **PACE, **NARROW, **QUICK}
    workers = (
        Worker(directory, "one", "double", **environment),
        Worker(directory, "two", "double", **environment),
    )
    found = Fleet(
        Replica(directory, "first", **environment), Replica(directory, "second", **environment), workers
    )
    try:
        found.start()
        yield found
        assert found.stop() == [0, 0, 0, 0]
    finally:
        found.kill()


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def front(request: pytest.FixtureRequest) -> Front:
    if request.param == "SQLite":
        return Front("SQLite", [request.getfixturevalue("shared")])
    fleet: Fleet = request.getfixturevalue("fleet")
    return Front("PostgreSQL", [fleet.first, fleet.second], fleet)
