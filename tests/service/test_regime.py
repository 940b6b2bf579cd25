"""POST /regime, with the real engine: what the page and the client build on."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest

from ntkengine.regime import RegimeSpec
from ntkengine.spec import from_jsonable
from service.routes.onnx_regime import EXAMPLE
from tests.service.examples import changed
from tests.service.problems import check_problem
from tests.service.server import Server, eventually

BODY: dict[str, Any] = {
    "model": {
        "layers": [
            {"kind": "dense", "width": 400, "b_std": 1.0},
            {"kind": "quadratic"},
            {"kind": "dense", "width": 1},
        ]
    },
    "data": {"x": [[1.0], [-1.0]], "y": [[1.0], [1.0]], "x_test": [[0.5]], "y_test": [[1.0]]},
    "training": {"kind": "gradient_descent", "learning_rate": 0.05, "steps": 150},
    "seeds": 3,
    "widths": [4, 400],
}


def asked(engine: Server, body: Any) -> dict[str, Any]:
    """The job, once it has ended."""
    answer = engine.client.post("/regime", json=body)
    assert answer.status_code == 202, answer.text
    place = answer.headers["Location"]
    assert place == f"/regime/{answer.json()['id']}"
    return eventually(lambda: ended(engine.client.get(place).json()))


def ended(job: dict[str, Any]) -> dict[str, Any] | None:
    return job if job["status"] in {"succeeded", "failed", "cancelled"} else None


@pytest.fixture(scope="module")
def job(engine: Server) -> dict[str, Any]:
    """One that has succeeded."""
    return asked(engine, BODY)


def test_a_wide_network_is_lazy_and_a_narrow_one_is_not(job: dict[str, Any]) -> None:
    assert job["status"] == "succeeded", job["error"]
    assert job["kind"] == "regime"
    assert job["progress"]["fraction"] == 1.0
    report = job["result"]
    assert [row["width"] for row in report["widths"]] == [4, 400]
    assert report["verdict"] == report["widths"][1]["verdict"] == "lazy"
    assert report["widths"][0]["verdict"] != "lazy"
    assert report["exponents"]["kernel_change"]["slope"] < -0.5
    assert report["thresholds"]["lazy_kernel_change"] == 0.1
    assert all(isinstance(reason, str) for reason in report["reasons"])


def test_the_cost_of_a_report_before_it_starts(engine: Server) -> None:
    cost = engine.client.post("/regime/estimate", json=BODY).raise_for_status().json()
    assert cost == from_jsonable(RegimeSpec, BODY).plan()
    wrong = engine.client.post("/regime/estimate", json=changed(BODY, "/seeds", 0))
    assert [error["pointer"] for error in check_problem(wrong, 422)["errors"]] == ["/seeds"]


def test_events_end_with_the_report(engine: Server, job: dict[str, Any]) -> None:
    events = engine.client.get(f"{job['links']['events']}", headers={"Accept": "application/x-ndjson"}).text
    last = events.strip().splitlines()[-1]
    assert '"finished"' in last
    assert '"verdict"' in last


def test_listed_and_forgotten(engine: Server) -> None:
    job = asked(engine, changed(changed(BODY, "/widths", None), "/training/learning_rate", 1e-5))
    assert job["result"]["verdict"] == "undetermined"
    place = job["links"]["self"]
    assert job["id"] in [each["id"] for each in engine.client.get("/regime").json()["reports"]]
    assert engine.client.delete(place).status_code == 204
    check_problem(engine.client.get(place), 404)


def test_cancelled(engine: Server) -> None:
    long = changed(BODY, "/training/steps", 100_000)
    place = engine.client.post("/regime", json=long).headers["Location"]
    eventually(lambda: engine.client.get(place).json()["status"] == "running")
    assert engine.client.post(f"{place}/cancel").json()["status"] == "cancelled"
    check_problem(engine.client.post(f"{place}/cancel"), 409)


@pytest.mark.parametrize(
    ("pointer", "value", "at"),
    [
        ("/seeds", 1, "/seeds"),
        ("/widths", [8, 8], "/widths"),
        ("/training", {"kind": "adam", "steps": 9}, "/advise"),
        ("/data/y", [[1.0]], "/data/y"),
        ("/model/layers", [{"kind": "dense", "width": 1}], "/model/layers"),
        ("/tolerance", 0, "/tolerance"),
    ],
)
def test_refused_with_the_field(engine: Server, pointer: str, value: Any, at: str) -> None:
    body = changed(changed(BODY, "/advise", "output_scale"), pointer, value)
    problem = engine.client.post("/regime", json=body)
    assert problem.status_code == 422, problem.text
    assert at in [each["pointer"] for each in problem.json()["errors"]]


@pytest.mark.parametrize(("pointer", "value"), [("/seeds", 1000), ("/widths", [10**7])])
def test_too_much_is_refused_with_the_estimate(engine: Server, pointer: str, value: Any) -> None:
    body = changed(changed(BODY, "/training/steps", 10**8), pointer, value)
    problem = engine.client.post("/regime", json=body)
    assert problem.status_code == 422
    assert {"estimate", "limit"} <= set(problem.json())


def test_a_network_in_a_file_under_its_own_optimiser(engine: Server) -> None:
    """As a form: the file, an array beside it, and the optimiser that is really used."""
    array = io.BytesIO()
    np.save(array, np.array([[1.0], [-0.5]]))
    request = {key: value for key, value in EXAMPLE["value"].items() if key not in {"onnx", "data"}}
    request["data"] = {"y": EXAMPLE["value"]["data"]["y"]}
    answer = engine.client.post(
        "/regime/onnx",
        data={"request": json.dumps(request)},
        files={"onnx": base64.b64decode(EXAMPLE["value"]["onnx"]), "x": array.getvalue()},
    )
    assert answer.status_code == 202, answer.text
    place = answer.headers["Location"]
    job = eventually(lambda: ended(engine.client.get(place).json()))
    assert job["status"] == "succeeded", job["error"]
    assert job["width"] is None
    assert "onnx" not in job["request"]
    report = job["result"]
    assert report["verdict"] == "rich"  # one neuron
    violated = {each["assumption"] for each in report["assumptions"] if not each["holds"]}
    assert violated == {"gradient_flow", "full_batch", "plain_descent"}
    assert any("the optimiser is Adam" in reason for reason in report["reasons"])


@pytest.mark.parametrize(
    ("field", "value", "at"),
    [
        ("onnx", "@@@@", "/onnx"),
        ("optimizer", {"kind": "lion"}, "/optimizer"),
        ("optimizer", {"kind": "adam", "momentum": 0.9}, "/optimizer/momentum"),
        ("data", {"x": [[1.0]], "y": [[1.0], [2.0]]}, "/data/y"),
        ("steps", 0, "/steps"),
    ],
)
def test_a_file_is_refused_with_the_field(engine: Server, field: str, value: Any, at: str) -> None:
    answer = engine.client.post("/regime/onnx", json=EXAMPLE["value"] | {field: value})
    assert check_problem(answer, 422)["errors"][0]["pointer"].startswith(at)


def test_what_is_wrong_in_a_file_is_told_by_the_job(engine: Server) -> None:
    answer = engine.client.post("/regime/onnx", json=EXAMPLE["value"] | {"onnx": "AAAA"})
    job = eventually(lambda: ended(engine.client.get(answer.headers["Location"]).json()))
    assert job["status"] == "failed"
    assert "ONNX" in job["error"]["detail"]
