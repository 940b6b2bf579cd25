"""The real engine is killed at random steps and tiles: what it computes is what it computes undisturbed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from numpy.random import Generator, default_rng

from tests.faults.conftest import ROUNDS, Database, running
from tests.faults.ledger import Account, Point
from tests.service.server import JSONObject, Server, alive, eventually

pytestmark = [pytest.mark.faults, pytest.mark.verify]

RECORD: list[JSONObject] = [
    {"what": "loss"},
    {"what": "outputs"},
    {"what": "kernel", "schedule": {"kind": "every", "steps": 250}},
]
FLOW_RECORD: list[JSONObject] = [{"what": "loss"}, {"what": "outputs"}, {"what": "kernel"}]
X = default_rng(0).normal(size=(12, 3)).tolist()
Y = default_rng(1).normal(size=(12, 1)).tolist()
LAYERS = [
    {"kind": "dense", "width": 32, "b_std": 0.5},
    {"kind": "tanh"},
    {"kind": "dense", "width": 32},
    {"kind": "relu"},
    {"kind": "dense", "width": 1},
]
TRAININGS: list[tuple[JSONObject, list[JSONObject]]] = [
    ({"kind": "gradient_descent", "learning_rate": 0.05, "steps": 3000, "momentum": 0.5}, RECORD),
    ({"kind": "adam", "learning_rate": 0.001, "steps": 2500}, RECORD),
    ({"kind": "gradient_descent", "learning_rate": 0.05, "steps": 3000, "batch_size": 4}, RECORD),
    ({"kind": "gradient_flow", "t_end": 40.0, "rtol": 1e-9, "atol": 1e-9}, FLOW_RECORD),
]
OF_KERNELS = {"NTK_MAX_POINTS": "300", "NTK_CONCURRENT_RUNS": "1", "NTK_CRASHES_ALLOWED": "1000"}


@pytest.fixture
def engine(tmp_path: Path, database: Database) -> Iterator[Server]:
    """A server with the engine, to be killed."""
    settings = {"NTK_SEGMENT_SECONDS": "0.1", "NTK_WARM_PROCESSES": "1", **OF_KERNELS, **database.settings}
    with running(Server(tmp_path, "engine", **settings)) as server:
        yield server


def points(events: list[JSONObject]) -> list[Point]:
    """All that was recorded, as text: floats are compared to the last bit."""
    told = [event for event in events if event["kind"] == "point"]
    return [(repr(sorted((k, v) for k, v in event.items() if k not in {"seq", "at"})),) for event in told]


def check(server: Server, account: Account, run_id: str, undisturbed: list[Point]) -> None:
    events = list(server.events(run_id))
    numbers = [(event["seq"],) for event in events]
    account.compare(numbers, [(n,) for n in range(len(events))])
    account.compare(points(events), undisturbed)
    account.expect(server.show(run_id, fields="")["status"], "succeeded")


@pytest.mark.parametrize("which", range(len(TRAININGS) if ROUNDS > 1 else 1))
def test_training(engine: Server, database: Database, chance: Generator, which: int) -> None:
    """The same run undisturbed, with its process killed at a random step, and with the server killed."""
    training, record = TRAININGS[which]
    body = {"model": {"layers": LAYERS}, "data": {"x": X, "y": Y}, "training": training, "record": record}
    first = engine.create(body)
    undisturbed = points(list(engine.events(first)))
    began, ended = (engine.show(first, fields="")[name] for name in ("started_at", "ended_at"))
    took = seconds_between(began, ended)
    account = database.account(f"engine, {training['kind']}: process killed at a random step")
    for _ in range(ROUNDS):
        run_id = engine.create(body)
        engine.reach(run_id, 1)
        time.sleep(chance.uniform(0, 0.7 * took))
        if alive(process := engine.process_of(run_id)):
            os.kill(process, signal.SIGKILL)
            account.injected += engine.show(run_id, fields="")["status"] == "running"
        check(engine, account, run_id, undisturbed)
    assert account.injected
    account = database.account(f"engine, {training['kind']}: server killed at a random step")
    for _ in range(ROUNDS // 4):
        run_id = engine.create(body)
        engine.reach(run_id, 1)
        time.sleep(chance.uniform(0, 0.7 * took))
        engine.kill()
        account.injected += 1
        engine.start()
        check(engine, account, run_id, undisturbed)


def seconds_between(begin: str, end: str) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def test_tiles(engine: Server, database: Database, chance: Generator) -> None:
    """Killed again and again while it writes tiles, a kernel has the digest of an undisturbed one."""
    account = database.account("process of a kernel killed while it writes tiles")
    x = default_rng(6).normal(size=(1200, 5)).tolist()
    layers = [*LAYERS[:2] * 6, LAYERS[4]]
    body: dict[str, Any] = {"model": {"layers": layers}, "x1": x, "dtype": "float32"}
    undisturbed = finished(engine, post(engine, body))
    assert engine.client.delete(undisturbed["links"]["self"]).status_code == 204
    for _ in range(ROUNDS):
        path = post(engine, body)
        for attempt in (1, 2, 3):
            process = engine.process_of(Path(path).name, attempt)
            time.sleep(chance.uniform(0.2, 2.0))
            if not alive(process):
                break
            os.kill(process, signal.SIGKILL)
            account.injected += 1
        job = finished(engine, path)
        account.expect(job["status"], "succeeded")
        account.compare([(job["result"]["sha256"],)], [(undisturbed["result"]["sha256"],)])
        assert engine.client.delete(path).status_code == 204


def post(server: Server, body: JSONObject) -> str:
    answer = server.client.post("/kernel", json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def finished(server: Server, path: str) -> JSONObject:
    def ended() -> JSONObject | None:
        found: JSONObject = server.client.get(path).json()
        return found if found["status"] not in {"queued", "running"} else None

    return eventually(ended, patience=120)
