"""SIGKILL at random moments, of the process of a run and of the server, in the middle of whatever they do."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from numpy.random import Generator

from tests.faults.browser import watched
from tests.faults.conftest import ROUNDS, Database
from tests.faults.ledger import Account, spec, uninterrupted
from tests.service.server import JSONObject, Server, alive, descendants, eventually

pytestmark = pytest.mark.faults
MANY = 20 if ROUNDS > 1 else 3
REST = 0.02  # between two requests of a client that was refused


def wound(server: Server, left: Account) -> None:
    """Kill the server; two seconds later nothing that it started is there."""
    started = descendants(server.pid)
    server.kill()
    with suppress(AssertionError):
        eventually(lambda: not any(map(alive, started)), patience=2)
    left.injected += 1
    left.expect([pid for pid in started if alive(pid)], [])


@pytest.fixture
def left(database: Database) -> Account:
    return database.account("server killed: processes of ours alive 2 s later")


def check_run(server: Server, account: Account, run_id: str, body: JSONObject) -> JSONObject:
    """Follow the run to its end; nothing of it is lost or doubled."""
    account.audit(list(server.events(run_id)), uninterrupted(body))
    run = server.show(run_id)
    account.expect(run["status"], "succeeded")
    account.expect(run["series"]["loss"]["step"], list(range(body["training"]["steps"] + 1)))
    return run


def test_process_at_a_random_step(mortal: Server, database: Database, chance: Generator) -> None:
    account = database.account("process of a run killed at a random step")
    for seed in range(ROUNDS):
        body = spec(seed=seed)
        run_id = mortal.create(body)
        process = mortal.process_of(run_id)
        time.sleep(chance.uniform(0, 1.4))
        os.kill(process, signal.SIGKILL)
        account.injected += 1
        run = check_run(mortal, account, run_id, body)
        account.expect(run["progress"]["crashes"], 1)


def test_process_while_it_writes_a_checkpoint(mortal: Server, database: Database, chance: Generator) -> None:
    """Found by the half-written file, which the next attempt does not take for a checkpoint."""
    account = database.account("process of a run killed while it writes a checkpoint")
    for seed in range(ROUNDS):
        body = spec(seed=seed)
        run_id = mortal.create(body)
        for attempt in range(1, 5):
            if not kill_in_a_checkpoint(mortal, run_id, attempt, skip=int(chance.integers(3))):
                break
            account.injected += 1
        check_run(mortal, account, run_id, body)
        assert list(half_written(mortal, run_id)) == []
    assert account.injected >= 2 * ROUNDS


def half_written(server: Server, run_id: str) -> Iterator[Path]:
    return (server.log.parent / "data" / "runs" / run_id / "checkpoints").glob("*.partial")


def kill_in_a_checkpoint(server: Server, run_id: str, attempt: int, skip: int) -> bool:
    """Kill the run's process as soon as it has begun another checkpoint; whether it was still there then."""
    process = server.process_of(run_id, attempt)
    seen: set[Path] = set()
    while alive(process):
        seen.update(half_written(server, run_id))
        if len(seen) > skip:
            os.kill(process, signal.SIGKILL)
            return any(half_written(server, run_id))
    return False


def test_server_in_mid_run(mortal: Server, database: Database, left: Account, chance: Generator) -> None:
    account = database.account("server killed in mid-run")
    for seed in range(ROUNDS):
        body = spec(seed=seed)
        run_id = mortal.create(body)
        mortal.process_of(run_id)
        time.sleep(chance.uniform(0.1, 1.2))
        mortal.reach(run_id, 1)
        before = mortal.show(run_id)["series"]["loss"]["value"]
        wound(mortal, left)
        account.injected += 1
        mortal.start()
        run = check_run(mortal, account, run_id, body)
        account.expect(run["series"]["loss"]["value"][: len(before)], before)


def test_server_between_the_answer_and_the_first_step(
    mortal: Server, database: Database, left: Account, chance: Generator
) -> None:
    account = database.account("server killed between 202 and the first step")
    for seed in range(ROUNDS):
        bodies = [spec(60, seed=10 * seed + n) for n in range(4)]  # more than compute at a time
        ids = [mortal.create(body) for body in bodies]
        time.sleep(chance.uniform(0, 0.05))
        wound(mortal, left)
        account.injected += 1
        mortal.start()
        for run_id, body in zip(ids, bodies, strict=True):
            check_run(mortal, account, run_id, body)


def test_server_before_its_reply(
    mortal: Server, database: Database, left: Account, chance: Generator
) -> None:
    """The client repeats its request with its key until it is answered; there is one run."""
    account = database.account("server killed before its reply, client repeats with its key")
    for seed in range(ROUNDS):
        body = spec(20, seed=seed)
        answers: list[str] = []
        client = threading.Thread(target=lambda: answers.append(insist(mortal, body, f"key {seed}")))  # noqa: B023
        client.start()
        time.sleep(chance.uniform(0, 0.03))
        wound(mortal, left)
        account.injected += 1
        mortal.start()
        client.join()
        runs = mortal.client.get("/runs", params={"limit": 500}).json()["runs"]
        account.compare([(run["id"],) for run in runs[: -seed or None]], [(answers[0],)])
        check_run(mortal, account, answers[0], body)


def insist(server: Server, body: JSONObject, key: str) -> str:
    """Ask until there is an answer; the run's id."""
    while True:
        try:
            return server.create(body, **{"Idempotency-Key": key})
        except httpx.TransportError:
            time.sleep(REST)


@pytest.mark.verify
def test_server_again_and_again_under_one_client(
    mortal: Server, database: Database, left: Account, chance: Generator
) -> None:
    """A client of server-sent events comes back with the last id that it saw, as browsers do."""
    account = database.account("server killed under one SSE client")
    body = spec(120 * MANY)
    run_id = mortal.create(body)
    events: list[JSONObject] = []
    client = threading.Thread(target=lambda: events.extend(watched(mortal, run_id)))
    client.start()
    for _ in range(MANY):
        reached = mortal.show(run_id, fields="")["progress"]["points"]
        mortal.reach(run_id, min(reached + 1, body["training"]["steps"]))
        time.sleep(chance.uniform(0, 0.3))
        wound(mortal, left)
        account.injected += 1
        mortal.start()
    client.join(timeout=120)
    account.audit(events, uninterrupted(body))
