"""Whatever is wrong with a request, the answer is a problem that says where, and what to do."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from tests.service.examples import KERNEL, RUN, changed
from tests.service.problems import LYING_FILE, check_problem
from tests.service.server import JSONObject, Server

MEAN_FIELD_TWO_HIDDEN = {
    "parameterization": {"kind": "mean_field"},
    "layers": [
        {"kind": "dense", "width": 8},
        {"kind": "relu"},
        {"kind": "dense", "width": 8},
        {"kind": "relu"},
        {"kind": "dense", "width": 1},
    ],
}
DENSE = {"kind": "dense", "width": 2}

DIGITS = {"kind": "dataset", "name": "digits"}
LYING = {"kind": "npy", "base64": base64.b64encode(LYING_FILE).decode()}
NO_TYPE = {"kind": "npy", "base64": base64.b64encode(LYING_FILE.replace(b"'<f8'", b"()   ")).decode()}


def nested(depth: int) -> Any:
    """A ragged list, that deep in lists."""
    inner: Any = [[1.0], 2.0]
    for _ in range(depth):
        inner = [inner]
    return inner


def repeated(layer: JSONObject) -> JSONObject:
    """The layer a thousand times."""
    return {"kind": "repeat", "times": 1000, "layer": layer}


# path, where, what stands there instead, the pointer in the answer
BODIES: dict[str, tuple[str, JSONObject, str]] = {
    "unknown kind of layer": ("/kernel", changed(KERNEL, "/model/layers/0/kind", "dens"), "/model/layers/0"),
    "missing kind": ("/kernel", changed(KERNEL, "/model/layers/0/kind", ...), "/model/layers/0"),
    "unknown key": ("/kernel", changed(KERNEL, "/model/layers/0/widht", 3), "/model/layers/0/widht"),
    "unknown key at the top": ("/kernel", changed(KERNEL, "/modle", 3), "/modle"),
    "missing model": ("/kernel", changed(KERNEL, "/model", ...), "/model"),
    "ragged array": ("/kernel", changed(KERNEL, "/x1", [[1.0], [1.0, 2.0]]), "/x1"),
    "strings in an array": ("/kernel", changed(KERNEL, "/x1", [["a"], ["b"]]), "/x1"),
    "booleans in an array": ("/kernel", changed(KERNEL, "/x1", [[True]]), "/x1"),
    "empty array": ("/kernel", changed(KERNEL, "/x1", []), "/x1"),
    "inputs without rows": ("/kernel", changed(KERNEL, "/x1", [1.0, 2.0]), "/x1"),
    "numbers too large": ("/kernel", changed(KERNEL, "/x1", [[1e308 * 10]]), "/x1/0/0"),
    "negative width": ("/kernel", changed(KERNEL, "/model/layers/0/width", -3), "/model/layers/0/width"),
    "width as text": ("/kernel", changed(KERNEL, "/model/layers/0/width", "8"), "/model/layers/0/width"),
    "width over the limit": (
        "/kernel",
        changed(KERNEL, "/model/layers/0/width", 10**6),
        "/model/layers/0/width",
    ),
    "too deep": ("/kernel", changed(KERNEL, "/model/layers", [DENSE] * 201), "/model/layers"),
    "repeated too often": (
        "/kernel",
        changed(KERNEL, "/model/layers/0", repeated(repeated(repeated(DENSE)))),
        "/model/layers",
    ),
    "too wide where it is repeated": (
        "/kernel",
        changed(KERNEL, "/model/layers/0", {"kind": "repeat", "times": 2, "layer": DENSE | {"width": 10**6}}),
        "/model/layers/0/layer/width",
    ),
    "no layers": ("/kernel", changed(KERNEL, "/model/layers", []), "/model/layers"),
    "too many points": ("/kernel", changed(KERNEL, "/x1", [[1.0]] * 200_001), "/x1"),
    "mismatched dimensions": ("/kernel", changed(KERNEL, "/x2", [[1.0, 2.0]]), "/x2"),
    "unknown sort of kernel": ("/kernel", changed(KERNEL, "/of/kind", "exact"), "/of"),
    "weights of a wrong shape": (
        "/kernel",
        changed(KERNEL, "/of", {"kind": "empirical", "weights": {"layers.0.W": [[1.0, 2.0]]}}),
        "/of/weights",
    ),
    "mean field with two hidden layers": (
        "/kernel",
        changed(KERNEL, "/model", MEAN_FIELD_TWO_HIDDEN),
        "/model/layers/2",
    ),
    "negative learning rate": (
        "/runs",
        changed(RUN, "/training/learning_rate", -0.1),
        "/training/learning_rate",
    ),
    "no steps": ("/runs", changed(RUN, "/training/steps", 0), "/training/steps"),
    "targets that do not fit": ("/runs", changed(RUN, "/data/y", [[1.0]]), "/data/y"),
    "unknown quantity": ("/runs", changed(RUN, "/record/0/what", "colour"), "/record/0"),
    "unknown trainer": ("/runs", changed(RUN, "/training/kind", "magic"), "/training"),
    "run over the limit": ("/runs", changed(RUN, "/training/steps", 10**12), "/training"),
    "steps without end": ("/runs", changed(RUN, "/training/steps", 10**400), "/training/steps"),
    "a record at every one of many steps": (
        "/runs",
        changed(changed(RUN, "/training/steps", 10**9), "/record/0/schedule", {"kind": "every", "steps": 1}),
        "/record/0/schedule/steps",
    ),
    "a data set as weights": (
        "/kernel",
        changed(KERNEL, "/of", {"kind": "empirical", "weights": {"layers.0.W": DIGITS}}),
        "/of/weights/layers.0.W",
    ),
    "a header that lies": ("/kernel", changed(KERNEL, "/x1", LYING), "/x1"),
    "a header without a type": ("/kernel", changed(KERNEL, "/x1", NO_TYPE), "/x1"),
    "a scale that overflows": (
        "/kernel",
        changed(KERNEL, "/model/output_scale", 1e200),
        "/model/output_scale",
    ),
    "lists in lists in lists": ("/kernel", changed(KERNEL, "/x1", nested(900)), "/x1"),
    "thousands of layers": (
        "/kernel",
        changed(KERNEL, "/model/layers", [{"kind": "relu"}] * 6000 + [DENSE]),
        "/model/layers",
    ),
    "an answer larger than memory": (
        "/kernel",
        changed(
            changed(KERNEL, "/model/layers", [{"kind": "dense", "width": 65_536}]),
            "/of",
            {"kind": "infinite", "outputs": "full"},
        ),
        "",
    ),
    "body that is no object": ("/runs", [1, 2], ""),  # type: ignore[dict-item]
    "unknown experiment": ("/runs", {"experiment": "nothing"}, "/experiment"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_body(client: httpx.Client, name: str) -> None:
    path, body, pointer = BODIES[name]
    content = json.dumps(body)
    problem = check_problem(
        client.post(path, content=content, headers={"Content-Type": "application/json"}), 422
    )
    assert [error["pointer"] for error in problem["errors"]][:1] == [pointer]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_literals_that_json_does_not_have(client: httpx.Client, literal: str) -> None:
    content = json.dumps(KERNEL).replace("-1.0", literal)
    problem = check_problem(
        client.post("/kernel", content=content, headers={"Content-Type": "application/json"}), 422
    )
    assert problem["errors"][0]["pointer"] == "/x1/1/0"


@pytest.mark.parametrize(
    "content",
    [b'{"model": ', b"", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b'{"a":' * 900 + b"1" + b"}" * 900],
)
def test_malformed_json(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/kernel", content=content, headers={"Content-Type": "application/json"})
    check_problem(answer, 400)


def test_errors_in_overrides_point_into_them(client: httpx.Client) -> None:
    name = client.get("/experiments").json()["experiments"][0]["name"]
    body = {"experiment": name, "overrides": {"seed": -1}}
    problem = check_problem(client.post("/runs", json=body), 422)
    assert problem["errors"][0]["pointer"] == "/overrides/seed"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_wrong_content_type(client: httpx.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    check_problem(client.post("/kernel", content=json.dumps(KERNEL), headers=headers), 415)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("DELETE", "/kernel", 405),
        ("GET", "/runs/unknown", 404),
        ("GET", "/runs/unknown/events", 404),
        ("POST", "/runs/unknown/cancel", 404),
        ("DELETE", "/runs/unknown", 404),
        ("GET", f"/runs/unknown/arrays/{'0' * 64}", 404),
        ("GET", "/runs/unknown/arrays/..%2F..%2Fsecret", 404),
        ("GET", "/experiments/unknown", 404),
        ("GET", "/runs?cursor=nonsense", 422),
        ("GET", "/runs?cursor=W10%3D", 422),
        ("GET", "/runs?limit=0", 422),
        ("GET", "/runs?status=asleep", 422),
        ("GET", "/runs?order=random", 422),
        ("GET", "/runs/unknown?max_points=1", 422),
        ("GET", "/runs/unknown/events?after=x", 422),
    ],
)
def test_bad_address(client: httpx.Client, method: str, path: str, status: int) -> None:
    check_problem(client.request(method, path), status)


def test_fields_that_a_run_does_not_have(double: Server, client: httpx.Client) -> None:
    run_id = double.create(RUN)  # it may not have begun, but what it will record is known
    assert double.show(run_id, fields="loss,outputs")["id"] == run_id
    problem = check_problem(client.get(f"/runs/{run_id}", params={"fields": "loss,lsos,../x"}), 422)
    assert [offence["pointer"] for offence in problem["errors"]] == ["fields", "fields"]
    assert "lsos" in problem["errors"][0]["detail"]
    assert "loss" in problem["hint"]


def test_bad_headers(double: Server, client: httpx.Client) -> None:
    run_id = double.create(RUN)
    events = f"/runs/{run_id}/events"
    check_problem(client.get(events, headers={"Last-Event-ID": "soon"}), 422)
    check_problem(client.get(events, headers={"Accept": "image/png"}), 406)
    check_problem(client.post("/kernel", json=KERNEL, headers={"Accept": "text/html"}), 406)


def test_body_over_the_limit(client: httpx.Client) -> None:
    too_large = b" " * (64 * 2**20 + 1)
    headers = {"Content-Type": "application/json"}
    check_problem(client.post("/kernel", content=too_large, headers=headers), 413)

    def in_pieces() -> Any:  # without a Content-Length
        for _ in range(65):
            yield b" " * 2**20

    check_problem(client.post("/kernel", content=in_pieces(), headers=headers), 413)


def test_an_error_inside_a_list_is_told_once(client: httpx.Client) -> None:
    problem = check_problem(client.post("/kernel", json=changed(KERNEL, "/model/layers/0/kind", "dens")), 422)
    assert [offence["pointer"] for offence in problem["errors"]] == ["/model/layers/0"]


def test_a_key_beside_the_experiment(client: httpx.Client) -> None:
    problem = check_problem(client.post("/runs", json={"experiment": "quadratic_ntk_2", "seed": 3}), 422)
    assert [offence["pointer"] for offence in problem["errors"]] == ["/seed"]
