"""Processes are killed; nothing that a client was told may be lost, doubled or changed."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from ntkengine.dynamics import RunSpec
from ntkengine.spec import from_jsonable
from tests.service import double
from tests.service.server import JSONObject, Server, alive, children, eventually

pytestmark = pytest.mark.faults

STEPS = 300
DENSE = {"kind": "dense", "width": 1}


def spec(**changes: Any) -> JSONObject:
    return {
        "model": {"layers": [DENSE]},
        "data": {"x": [[1.0]], "y": [[1.0]]},
        "training": {"kind": "gradient_descent", "learning_rate": 0.01, "steps": STEPS},
        **changes,
    }


def uninterrupted(body: JSONObject) -> list[tuple[Any, Any]]:
    """What the run records when nothing happens to it, computed here."""
    segments = double.descend(from_jsonable(RunSpec, body), segment_seconds=60)
    points = [point for segment in segments for point in segment.points]
    return [(point.step, point.values["loss"]) for point in points]


def check_complete(events: list[JSONObject], body: JSONObject) -> None:
    """All events are there once, in order, with the values of an uninterrupted run to the last bit."""
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert events[0]["kind"] == "started"
    assert events[-1]["kind"] == "finished"
    points = [event for event in events if event["kind"] == "point"]
    assert [(point["step"], point["loss"]) for point in points] == uninterrupted(body)


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


def test_killed_process_of_a_run(shared: Server) -> None:
    run_id = shared.create(spec(seed=1))
    shared.reach(run_id, 60)
    os.kill(shared.process_of(run_id), signal.SIGKILL)
    check_complete(list(shared.events(run_id)), spec(seed=1))
    run = shared.show(run_id)
    assert run["status"] == "succeeded"
    assert run["progress"]["crashes"] == 1
    assert run["series"]["loss"]["step"] == list(range(STEPS + 1))


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


def test_process_that_exits_by_itself_each_time(shared: Server) -> None:
    run_id = shared.create(spec(seed=double.EXITS))
    list(shared.events(run_id))
    run = shared.show(run_id)
    assert run["status"] == "failed"
    assert "exit status 9" in run["error"]["detail"]


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


def test_killed_server(mortal: Server) -> None:
    body = spec(seed=2)
    run_id = mortal.create(body)
    mortal.reach(run_id, 60)
    before = read_now(mortal, run_id)
    started = children(mortal.pid)
    assert started
    mortal.kill()
    time.sleep(2)
    assert [pid for pid in started if alive(pid)] == []
    mortal.start()
    events = list(mortal.events(run_id))
    assert events[: len(before)] == before
    check_complete(events, body)


def test_stopped_server_leaves_its_runs_to_the_next(mortal: Server) -> None:
    body = spec(seed=4)
    run_id = mortal.create(body)
    mortal.reach(run_id, 60)
    mortal.stop()
    mortal.start()
    check_complete(list(mortal.events(run_id)), body)
    assert mortal.show(run_id)["progress"]["crashes"] == 0


def test_damaged_checkpoint(mortal: Server) -> None:
    body = spec(seed=3)
    run_id = mortal.create(body)
    mortal.reach(run_id, 60)
    mortal.kill()
    kept = (mortal.log.parent / "data" / "runs" / run_id / "checkpoints").glob("*.npz")
    newest = max(kept, key=lambda path: path.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:-40])
    mortal.start()
    check_complete(list(mortal.events(run_id)), body)


def test_queued_runs_survive_the_server(mortal: Server) -> None:
    training = {"kind": "gradient_descent", "learning_rate": 0.01, "steps": 60}
    bodies = [spec(seed=seed, training=training) for seed in range(4)]  # more than compute at a time
    ids = [mortal.create(body) for body in bodies]
    mortal.kill()
    mortal.start()
    for run_id, body in zip(ids, bodies, strict=True):
        check_complete(list(mortal.events(run_id)), body)


def read_now(server: Server, run_id: str) -> list[JSONObject]:
    """The events that are stored at this moment, while the run goes on."""
    count = server.show(run_id, fields="")["progress"]["points"]
    stream = server.events(run_id)
    return [next(stream) for _ in range(count)]


def test_killed_process_of_a_kernel(shared: Server) -> None:
    request: JSONObject = {"model": spec()["model"], "x1": [[1.0], [2.0]]}
    fatal = {**request, "model": {**spec()["model"], "output_scale": double.EXITS}}
    for _ in range(3):
        answer = shared.client.post("/kernel", json=fatal)
        assert answer.status_code == 500
        assert answer.json()["type"] == "urn:ntkengine:problem:worker-died"
        assert "exit status 3" in answer.json()["detail"]
        assert shared.client.post("/kernel", json=request).json()["kernels"]["ntk"] == [[1, 2], [2, 4]]
