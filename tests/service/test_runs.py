"""Runs over HTTP: what is answered, whatever they compute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest
from pydantic import TypeAdapter

from ntkengine.dynamics import RunSpec
from ntkengine.experiments import EXPERIMENTS
from ntkengine.spec import from_jsonable
from service.runs.events import JobEvent
from tests.service.examples import RUN, changed
from tests.service.problems import check_problem
from tests.service.server import Server

EVENT: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)


@pytest.fixture(scope="module")
def finished(double: Server) -> str:
    """A run that has ended."""
    run_id = double.create(RUN)
    list(double.events(run_id))
    return run_id


def test_answer_to_a_new_run(client: httpx.Client) -> None:
    answer = client.post("/runs", json=RUN)
    run = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/runs/{run['id']}" == run["links"]["self"]
    assert len(run["id"]) >= 20
    assert run["status"] == "queued"
    assert run["time_per_step"] == 0.001
    assert run["rate_factor"] == 1.0
    assert run["time_unit"]
    assert run["network"] == ", ".join(
        f"{layer['kind']} {layer.get('width', '')}".strip() for layer in RUN["model"]["layers"]
    )
    assert datetime.fromisoformat(run["created_at"]).utcoffset() is not None


def test_the_cost_of_a_run_and_what_is_wrong_with_it_before_it_starts(client: httpx.Client) -> None:
    cost = client.post("/runs/estimate", json=RUN).raise_for_status().json()
    assert cost == from_jsonable(RunSpec, RUN).plan()
    by_name = client.post("/runs/estimate", json={"experiment": "quadratic_ntk_10"})
    assert by_name.json() == EXPERIMENTS["quadratic_ntk_10"].spec.plan()
    wrong = client.post("/runs/estimate", json=changed(RUN, "/training/steps", -1))
    assert [error["pointer"] for error in check_problem(wrong, 422)["errors"]] == ["/training/steps"]
    endless = client.post("/runs/estimate", json=changed(RUN, "/training/steps", 10**12))
    assert "flops" in check_problem(endless, 422)["estimate"]


def test_every_event_is_one_of_the_documented(double: Server, finished: str) -> None:
    events = list(double.events(finished))
    assert [event["seq"] for event in events] == list(range(len(events)))
    parsed = [EVENT.validate_python(event) for event in events]
    assert parsed[0].kind == "started"
    assert parsed[-1].kind == "finished"
    assert all(event.at is not None for event in parsed)


def test_event_stream(client: httpx.Client, finished: str) -> None:
    with client.stream("GET", f"/runs/{finished}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = [dict(line.split(": ", 1) for line in block) for block in blocks(answer.iter_lines())]
    messages = [message for message in told if "id" in message]  # the first says when to come back
    assert [message["id"] for message in messages] == [str(n) for n in range(len(messages))]
    assert messages[0]["event"] == "started"
    assert messages[-1]["event"] == "finished"
    later = client.get(f"/runs/{finished}/events", headers={"Last-Event-ID": messages[-3]["id"]})
    assert later.text.count("data: ") == 2
    over = client.get(f"/runs/{finished}/events", headers={"Last-Event-ID": messages[-1]["id"]})
    assert over.status_code == 204


def blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    """Groups of lines between empty ones."""
    block: list[str] = []
    for line in lines:
        if line:
            block.append(line)
        elif block:
            yield block
            block = []


def test_window_of_a_series(double: Server, finished: str) -> None:
    everything = double.show(finished)["series"]["loss"]
    some = double.show(finished, fields="loss", from_step=10, every=7)["series"]
    steps = [step for step in everything["step"] if step >= 10]
    assert set(some) == {"loss"}
    assert some["loss"]["step"] == sorted({*steps[::7], steps[-1]})
    assert some["loss"]["thinned"] is False
    few = double.show(finished, max_points=4)["series"]["loss"]
    assert len(few["step"]) <= 4
    assert few["thinned"] is True
    assert few["total"] == everything["total"]
    assert few["step"][-1] == everything["step"][-1]
    assert double.show(finished, fields="")["series"] == {}
    assert double.show(finished, from_step=10**6)["series"]["loss"]["value"] == []


def test_experiment_with_overrides(double: Server, client: httpx.Client) -> None:
    for experiment in client.get("/experiments").json()["experiments"]:
        assert client.get(f"/experiments/{experiment['name']}").json() == experiment
        assert experiment["title"]
        assert experiment["shows"]
        assert experiment["expect"]
    name = client.get("/experiments").json()["experiments"][0]["name"]
    answer = client.post("/runs", json={"experiment": name})
    assert answer.status_code == 202
    run_id = answer.json()["id"]
    assert double.show(run_id, fields="")["experiment"] == name
    assert client.delete(f"/runs/{run_id}").status_code == 204


def test_idempotency_key(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "the-same"}
    first = client.post("/runs", json=RUN, headers=headers)
    again = client.post("/runs", json=RUN, headers=headers)
    other = client.post("/runs", json=changed(RUN, "/seed", 1), headers=headers)
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    assert other.status_code == 422
    assert other.json()["type"] == "urn:ntkengine:problem:key-reused"


def test_pages(double: Server, client: httpx.Client) -> None:
    made = [double.create(changed(RUN, "/training/steps", 1)) for _ in range(5)]
    for order, expected in (("newest", made[::-1]), ("oldest", made)):
        seen: list[str] = []
        query: dict[str, str | int] = {"limit": 2, "order": order}
        while True:
            page = client.get("/runs", params=query).json()
            seen += [run["id"] for run in page["runs"] if run["id"] in made]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert seen == expected


def test_filters(double: Server, client: httpx.Client, finished: str) -> None:
    found = client.get("/runs", params={"status": "succeeded", "limit": 500}).json()["runs"]
    assert finished in [run["id"] for run in found]
    assert {run["status"] for run in found} == {"succeeded"}
    assert client.get("/runs", params={"experiment": "no-such"}).json() == {"runs": [], "next": None}
