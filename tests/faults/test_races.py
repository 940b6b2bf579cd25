"""Many clients at once: those that cancel as a run ends, that repeat themselves, and that do not read."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from numpy.random import Generator

from tests.faults.conftest import PACE, ROUNDS, Database, Front, running
from tests.faults.ledger import spec, uninterrupted
from tests.service.server import JSONObject, Server

pytestmark = [pytest.mark.faults, pytest.mark.verify]

MOST = 1000
CANCELLED = min(MOST, 20 * ROUNDS)
POSTED = min(MOST, 30 * ROUNDS)
READERS = 200


@pytest.mark.timeout(3600)
def test_cancel_at_random_and_racing_completion(front: Front, chance: Generator) -> None:
    """Whoever wins, the run has one end, and the answer to the one who cancelled says which."""
    account = front.account("cancel at a random moment, or as the run ends")
    moments = chance.uniform(0, 1, CANCELLED)

    def race(number: int) -> tuple[str, JSONObject, int]:
        body = spec(int(5 + 20 * moments[number]), seed=number)
        server = front.server(number)
        run_id = server.create(body)
        if number % 2:  # as it ends: its last step is made
            server.reach(run_id, body["training"]["steps"])
        else:
            time.sleep(0.3 * moments[-number])
        return run_id, body, front.server(number + 1).client.post(f"/runs/{run_id}/cancel").status_code

    with ThreadPoolExecutor(4) as threads:
        for run_id, body, answer in threads.map(race, range(CANCELLED)):
            events = list(front.server(0).events(run_id))
            end = {200: "cancelled", 409: "finished"}[answer]
            account.injected += 1
            account.audit(events, uninterrupted(body), end)
            status = {200: "cancelled", 409: "succeeded"}[answer]
            account.expect(front.server(1).show(run_id, fields="")["status"], status)


@pytest.mark.timeout(3600)
def test_concurrent_posts_with_repeated_keys(front: Front) -> None:
    """A third of the requests repeat the key of another, at the same time and on the other replica."""
    account = front.account("concurrent posts, a third with repeated keys")
    distinct = POSTED - POSTED // 3
    start = time.time_ns()

    def post(number: int) -> tuple[int, str]:
        which = number % distinct
        body = spec(2, seed=which)
        server = front.server(number + number // distinct)
        return which, server.create(body, **{"Idempotency-Key": f"{start} {which}"})

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(post, range(POSTED)))
    account.injected += POSTED
    ids = dict(answers)
    account.compare(sorted(set(answers)), sorted(ids.items()))
    assert len(set(ids.values())) == distinct
    for which, run_id in ids.items():
        account.audit(list(front.server(which).events(run_id)), uninterrupted(spec(2, seed=which)))
        account.expect(front.attempts(run_id), 1)


@pytest.fixture
def crowded(tmp_path: Path, database: Database) -> Iterator[Server]:
    """A server whose points are as large as points can be."""
    settings = {"NTK_TEST_LARGE": "20", "NTK_WARM_PROCESSES": "1", "NTK_DATABASE_CONNECTIONS": "5"}
    with running(Server(tmp_path, "double", **PACE, **settings, **database.settings)) as server:
        yield server


def test_readers_that_do_not_read(crowded: Server, database: Database) -> None:
    """They ask for all events and take none: they cost little, and nobody else notices."""
    account = database.account("readers that do not read")
    body = spec(200)
    run_id = crowded.create(body)
    crowded.reach(run_id, 50)
    before = resident_bytes(crowded.pid)
    request = f"GET /runs/{run_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(READERS):
            stack.enter_context(closed_to_answers(crowded.port)).sendall(request)
            account.injected += 1
        account.audit(list(crowded.events(run_id)), uninterrupted(body))
        later = crowded.create(spec(20))
        account.audit(list(crowded.events(later)), uninterrupted(spec(20)))
        assert httpx.get(f"http://127.0.0.1:{crowded.port}/healthz", timeout=5).is_success
        grown = resident_bytes(crowded.pid) - before
        assert grown < READERS * 8 * 2**20, f"{grown / READERS / 2**20:.1f} MiB each"
        begin = time.monotonic()
        assert crowded.stop() == 0
        assert time.monotonic() - begin < 10


def closed_to_answers(port: int) -> socket.socket:
    """A connection that holds next to nothing of what it is sent."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    return connection


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096
