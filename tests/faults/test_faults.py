"""Processes are killed; nothing that a client was told may be lost, doubled or changed."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.faults.conftest import Front
from tests.faults.ledger import recorded, spec, uninterrupted
from tests.service import double
from tests.service.server import JSONObject, Server, alive, eventually

pytestmark = pytest.mark.faults


def check_complete(events: list[JSONObject], body: JSONObject) -> None:
    """All events are there once, in order, with the values of an uninterrupted run to the last bit."""
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert events[0]["kind"] == "started"
    assert events[-1]["kind"] == "finished"
    assert recorded(events) == uninterrupted(body)


def test_points_arrive_while_the_run_is_running(shared: Server) -> None:
    run_id = shared.create(spec())
    seen: list[JSONObject] = []
    moments: set[str] = set()
    for event in shared.events(run_id):
        seen.append(event)
        if event["kind"] == "point" and event["at"] not in moments and len(moments) < 3:
            assert shared.show(run_id, fields="")["status"] == "running"
            moments.add(event["at"])
    assert len(moments) == 3
    check_complete(seen, spec())


def test_who_joins_late_gets_everything(shared: Server) -> None:
    run_id = shared.create(spec())
    shared.reach(run_id, 60)
    check_complete(list(shared.events(run_id)), spec())
    check_complete(list(shared.events(run_id)), spec())  # also when all is over
    assert [event["seq"] for event in shared.events(run_id, after=100)][:2] == [101, 102]


def test_three_crashes_are_a_failure_with_its_reason(shared: Server) -> None:
    run_id = shared.create(spec())
    for attempt in (1, 2, 3):
        os.kill(shared.process_of(run_id, attempt), signal.SIGKILL)
    events = list(shared.events(run_id))
    assert events[-1]["kind"] == "failed"
    run = shared.show(run_id)
    assert run["status"] == "failed"
    assert run["error"] == events[-1]["error"]
    assert "SIGKILL" in run["error"]["detail"]
    assert "crash 3 of 3" in run["error"]["detail"]


@pytest.mark.parametrize(
    ("seed", "fault", "category", "words"),
    [
        (double.EXITS, "job whose process crashes each time", "worker-died", "exit status 9"),
        (double.HOARDS, "job that takes all memory", "too-costly", "memory"),
    ],
)
def test_job_that_cannot_be_completed(front: Front, seed: int, fault: str, category: str, words: str) -> None:
    """It fails, for a reason that is told, and what it recorded is kept; the next job does not notice."""
    account = front.account(fault)
    body = spec(100, seed=seed)
    run_id = front.server(0).create(body)
    account.audit(list(front.server(1).events(run_id)), uninterrupted(body), "failed")
    run = front.server(1).show(run_id)
    account.injected += max(1, run["progress"]["crashes"])
    account.expect((run["status"], run["error"]["category"]), ("failed", category))
    assert words in run["error"]["detail"]
    account.audit(list(front.server(0).events(front.server(0).create(spec(5)))), uninterrupted(spec(5)))


def test_failure_of_the_engine_is_not_repeated(shared: Server) -> None:
    run_id = shared.create(spec(seed=double.DIVERGES))
    list(shared.events(run_id))
    run = shared.show(run_id)
    assert run["status"] == "failed"
    assert run["progress"]["crashes"] == 0
    assert run["error"]["category"] == "numerical"
    assert run["error"]["pointer"] == "/training/learning_rate"


def test_cancel_ends_the_process(shared: Server) -> None:
    run_id = shared.create(spec())
    shared.reach(run_id, 30)
    process = shared.process_of(run_id)
    assert shared.client.post(f"/runs/{run_id}/cancel").json()["status"] == "cancelled"
    eventually(lambda: not alive(process))
    events = list(shared.events(run_id))
    assert events[-1]["kind"] == "cancelled"
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert shared.client.post(f"/runs/{run_id}/cancel").status_code == 409


def test_delete_removes_rows_and_files(shared: Server) -> None:
    run_id = shared.create(spec())
    shared.reach(run_id, 30)
    process = shared.process_of(run_id)
    data = shared.log.parent / "data"
    assert (data / "runs" / run_id).exists()
    assert shared.client.delete(f"/runs/{run_id}").status_code == 204
    assert not alive(process)
    assert shared.client.get(f"/runs/{run_id}").status_code == 404
    assert not (data / "runs" / run_id).exists()
    assert rows_that_mention(data / "ntk.sqlite", run_id) == []


def rows_that_mention(database: Path, text: str) -> list[str]:
    """The tables of the database, also those of the job layer, in which the text still stands."""
    connection = sqlite3.connect(database)
    try:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}  # noqa: S608
    finally:
        connection.close()
    return [name for name, found in rows.items() if any(text in str(row) for row in found)]


def test_stopped_server_leaves_its_runs_to_the_next(mortal: Server) -> None:
    body = spec(seed=4)
    run_id = mortal.create(body)
    mortal.reach(run_id, 60)
    mortal.stop()
    mortal.start()
    check_complete(list(mortal.events(run_id)), body)
    assert mortal.show(run_id)["progress"]["crashes"] == 0


def test_killed_process_of_a_kernel(shared: Server) -> None:
    request: JSONObject = {"model": spec()["model"], "x1": [[1.0], [2.0]]}
    fatal = {**request, "model": {**spec()["model"], "output_scale": double.EXITS}}
    for _ in range(3):
        answer = shared.client.post("/kernel", json=fatal)
        assert answer.status_code == 500
        assert answer.json()["type"] == "urn:ntkengine:problem:worker-died"
        assert "exit status 3" in answer.json()["detail"]
        assert shared.client.post("/kernel", json=request).json()["kernels"]["ntk"] == [[1, 2], [2, 4]]
