"""Sweeps by HTTP on real servers: tables that grow, refusals before work, kills in the middle, files."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ntkengine.spec import from_jsonable
from ntkengine.sweeps import SweepSpec, sweep
from service.client import AsyncClient, Client, ProblemError
from tests.service.examples import RUN, changed
from tests.service.problems import check_problem
from tests.service.server import JSONObject, Server, eventually

WIDTH, RATE = "/model/layers/0/width", "/training/learning_rate"
BASE = {**{name: value for name, value in RUN.items() if name != "seed"}, "seeds": [0, 1, 2]}
BODY: JSONObject = {
    "run": BASE,
    "axes": [{"field": WIDTH, "values": [4, 8, 16]}, {"field": RATE, "values": [0.01, 0.02]}],
}
LONG = changed(BODY, "/run/training/steps", 600)


def by_the_engine(body: JSONObject) -> JSONObject:
    """The table that an undisturbed sweep of the engine comes to, as JSON has it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        *_, last = sweep(from_jsonable(SweepSpec, body))
    finally:
        torch.set_num_threads(threads)
    table: JSONObject = json.loads(json.dumps(last.result))
    return table


def post(server: Server, body: JSONObject, **headers: str) -> str:
    answer = server.client.post("/sweeps", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    place = answer.headers["Location"]
    assert place == answer.json()["links"]["self"] == f"/sweeps/{answer.json()['id']}"
    return str(place)


def show(server: Server, path: str) -> JSONObject:
    found: JSONObject = server.client.get(path).raise_for_status().json()
    return found


def finished(server: Server, path: str) -> JSONObject:
    def ended() -> JSONObject | None:
        job = show(server, path)
        return job if job["status"] in {"succeeded", "failed", "cancelled"} else None

    return eventually(ended, patience=100)


def rows_done(server: Server, path: str, rows: int) -> JSONObject | None:
    job = show(server, path)
    assert job["status"] in {"queued", "running"}, "it ended too soon for this test"
    return job if len(job["result"]["rows"]) >= rows else None


@pytest.fixture(scope="module")
def done(engine: Server) -> JSONObject:
    """One that has succeeded."""
    return finished(engine, post(engine, BODY))


def test_the_table_is_that_of_the_engine(done: JSONObject) -> None:
    assert done["status"] == "succeeded", done["error"]
    assert done["kind"] == "sweep"
    assert done["result"] == by_the_engine(BODY)
    assert [row["values"][0] for row in done["result"]["rows"]] == [4, 4, 8, 8, 16, 16]
    assert done["progress"]["combinations"] == {"done": 6, "total": 6}
    assert done["progress"]["fraction"] == 1.0


def test_events_bring_each_row_as_it_is_done(engine: Server, done: JSONObject) -> None:
    events = list(engine.events_of(done["links"]["self"]))
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert events[0]["kind"] == "started"
    rows = [event["row"] for event in events if event["kind"] == "point"]
    assert rows == done["result"]["rows"]
    assert events[-1]["kind"] == "finished"
    assert events[-1]["result"] == {"exponents": done["result"]["exponents"]}
    counts = [event["counts"]["combinations"]["done"] for event in events if event["kind"] == "progress"]
    assert counts == sorted(counts)
    assert counts[-1] == 6


def test_listed_without_its_table(engine: Server, done: JSONObject) -> None:
    listed = engine.client.get("/sweeps", params={"status": "succeeded", "limit": 500}).json()["sweeps"]
    (mine,) = [each for each in listed if each["id"] == done["id"]]
    assert "result" not in mine
    assert mine["axes"][0] == {"field": WIDTH, "values": [4, 8, 16], "also": []}


def test_as_files(engine: Server, done: JSONObject) -> None:
    answer = engine.client.get(done["links"]["export"])
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    for row, known in zip(rows, done["result"]["rows"], strict=True):
        assert [float(row[WIDTH]), float(row[RATE])] == known["values"]
        assert float(row["kernel_change"]) == known["kernel_change"]["median"]
        assert float(row["kernel_change_high"]) == known["kernel_change"]["high"]
        assert (row["loss_test"], row["error"]) == ("", "")
    found = engine.client.get(done["links"]["export"], params={"format": "json"}).json()
    assert {name: found[name] for name in done["result"]} == done["result"]
    assert found["spec"]["axes"] == done["axes"]
    check_problem(engine.client.get(done["links"]["export"], params={"format": "npz"}), 422)


def test_the_cost_before_it_starts(engine: Server) -> None:
    cost = engine.client.post("/sweeps/estimate", json=BODY).raise_for_status().json()
    assert cost == from_jsonable(SweepSpec, BODY).plan()
    assert cost["combinations"] == 6


@pytest.mark.parametrize(
    ("pointer", "value", "at", "says"),
    [
        ("/axes/0/values", [4, 8, 0], "/axes/0/values/2", f"combination 4 ({WIDTH} = 0, {RATE} = 0.01)"),
        ("/axes/1/values", [0.1, "fast"], "/axes/1/values/1", "combination 1"),
        ("/axes/0/field", "/model/layers/9/width", "/axes/0/field", "no place"),
        ("/axes/0/field", "model.layers", "/axes/0/field", "pattern"),
        ("/axes/0/field", RATE, "/axes/1/field", "undo"),
        ("/axes/0/values", [], "/axes/0/values", "at least 1"),
        ("/axes", [], "/axes", "at least 1"),
        ("/axes/1", {"field": "/model/layers/2/width", "values": [2]}, "/axes", "targets have shape"),
        ("/combine", "all", "/combine", "grid"),
        ("/run/data/y", [[1.0]], "/run/data/y", "targets have shape"),
        ("/run/seed", 0, "/run/seeds", "seeds stand in place"),
        ("/run/training/steps", 0, "/run/training/steps", "greater than or equal to 1"),
    ],
)  # fmt: skip
def test_refused_before_work_with_the_value(
    engine: Server, pointer: str, value: Any, at: str, says: str
) -> None:
    for place in ("/sweeps", "/sweeps/estimate"):
        problem = check_problem(engine.client.post(place, json=changed(BODY, pointer, value)), 422)
        assert problem["errors"][0]["pointer"] == at
        assert says in problem["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("pointer", "value", "at", "what"),
    [
        ("/axes/0/values", [4, 10**6], "/axes/0/values/1", "width"),
        ("/axes/1", {"field": "/training/steps", "values": [10, 10**12]}, "/axes/1/values/1", "flops"),
        ("/run/training/steps", 18_000_000, "/axes", "flops"),  # each is allowed
        ("/axes/0/values", list(range(1, 1000)), "/axes", "combinations"),
    ],
)
def test_over_a_limit_with_the_estimate(engine: Server, pointer: str, value: Any, at: str, what: str) -> None:
    problem = check_problem(engine.client.post("/sweeps", json=changed(BODY, pointer, value)), 422)
    assert problem["type"].endswith("too-costly")
    assert problem["errors"][0]["pointer"] == at
    assert problem["estimate"][what] > problem["limit"][what]


def test_values_that_are_nested_too_deeply_are_refused(engine: Server) -> None:
    deep = "[" * 700 + "1" + "]" * 700
    body = json.dumps(changed(BODY, "/axes/0/values", ["deep"])).replace('"deep"', deep)
    headers = {"Content-Type": "application/json"}
    problem = check_problem(engine.client.post("/sweeps", content=body, headers=headers), 422)
    assert problem["errors"][0]["pointer"].startswith("/axes/0/values/0")


def test_data_sets_are_values_and_those_unknown_are_refused(engine: Server) -> None:
    digits = {"kind": "dataset", "name": "digits", "limit": 4}
    run = {**BASE, "data": {"x": digits, "y": digits}, "seeds": [0]}
    run["model"] = changed(BASE["model"], "/layers/2/width", 10)
    axes = [{"field": "/data/x/limit", "also": ["/data/y/limit"], "values": [2, 3]}]
    job = finished(engine, post(engine, {"run": run, "axes": axes}))
    assert [row["values"] for row in job["result"]["rows"]] == [[2], [3]]
    axes = [{"field": "/data/x", "also": ["/data/y"], "values": [digits, {**digits, "name": "nobodys"}]}]
    problem = check_problem(engine.client.post("/sweeps", json={"run": run, "axes": axes}), 422)
    assert problem["errors"][0]["pointer"] == "/axes/0/values/1/name"


def test_as_a_form(engine: Server) -> None:
    array = io.BytesIO()
    np.save(array, np.array([[1.0], [-1.0]]))
    body = changed(BODY, "/run/data/x", ...)
    data, files = {"request": json.dumps(body)}, {"x": array.getvalue()}
    answer = engine.client.post("/sweeps/estimate", data=data, files=files)
    assert answer.json() == from_jsonable(SweepSpec, BODY).plan()


def test_the_same_key_is_the_same_sweep(engine: Server) -> None:
    headers = {"Idempotency-Key": "a sweep"}
    assert post(engine, BODY, **headers) == post(engine, BODY, **headers)
    other = engine.client.post(
        "/sweeps", json=changed(BODY, "/combine", "grid") | {"axes": BODY["axes"][:1]}, headers=headers
    )
    assert check_problem(other, 422)["type"].endswith("key-reused")


def test_cancelled_it_keeps_its_rows(engine: Server) -> None:
    path = post(engine, LONG)
    eventually(lambda: rows_done(engine, path, 1), patience=100)
    assert engine.client.post(f"{path}/cancel").json()["status"] == "cancelled"
    kept = show(engine, path)["result"]
    assert kept["rows"]
    assert kept["exponents"] is None
    assert len(engine.client.get(f"{path}/export").text.splitlines()) == 1 + len(kept["rows"])
    check_problem(engine.client.post(f"{path}/cancel"), 409)
    assert engine.client.delete(path).status_code == 204
    check_problem(engine.client.get(path), 404)
    check_problem(engine.client.get(path.replace("sweeps", "runs")), 404)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """A server that may be killed."""
    server = Server(tmp_path, "engine", NTK_SEGMENT_SECONDS="0.1")
    server.start()
    yield server
    server.close()


@pytest.mark.faults
@pytest.mark.long
@pytest.mark.timeout(300)
def test_killed_process_and_killed_server_come_to_the_same_table(mortal: Server) -> None:
    path = post(mortal, LONG)
    before = eventually(lambda: rows_done(mortal, path, 1), patience=100)["result"]["rows"]
    os.kill(mortal.process_of(Path(path).name), signal.SIGKILL)
    eventually(lambda: show(mortal, path)["progress"]["crashes"] == 1)
    middle = eventually(lambda: rows_done(mortal, path, len(before) + 1), patience=100)["result"]["rows"]
    mortal.kill()
    mortal.start()
    job = finished(mortal, path)
    assert job["status"] == "succeeded", job["error"]
    assert job["result"]["rows"][: len(middle)] == middle
    assert middle[: len(before)] == before
    assert job["result"] == by_the_engine(LONG)
    events = list(mortal.events_of(path))
    assert [event["row"]["index"] for event in events if event["kind"] == "point"] == list(range(6))


def test_the_client(engine: Server) -> None:
    address = f"http://127.0.0.1:{engine.port}"
    body = {**BODY, "run": {**BASE, "data": {"x": np.array([[1.0], [-1.0]]), "y": np.ones((2, 1))}}}
    with Client(address) as client:
        job = client.sweep(body)
        rows = [event["row"] for event in job.events() if event.kind == "point"]
        assert job.wait().status == "succeeded"
        assert job.table()["rows"] == rows
        assert job.table() == by_the_engine(BODY)
        assert job.export().startswith(b"index,/model/layers/0/width")
        with pytest.raises(ProblemError, match="combination 0"):
            client.sweep(changed(BODY, "/axes/0/values", [0]))
        job.delete()


def test_the_client_on_an_event_loop(engine: Server) -> None:
    async def asked() -> Any:
        async with AsyncClient(f"http://127.0.0.1:{engine.port}") as client:
            job = await client.sweep({**BODY, "axes": BODY["axes"][:1]})
            await job.wait()
            assert json.loads(await job.export("json"))["rows"] == (await job.table())["rows"]
            return await job.table()

    table = asyncio.run(asked())
    assert [row["values"] for row in table["rows"]] == [[4], [8], [16]]
    assert {each["of"] for each in table["exponents"]} == {"kernel_change", "weight_change"}
