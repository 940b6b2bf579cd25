"""Forms: arrays and weights as files beside the JSON, with the real engine."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch

from ntkengine.model import Model
from ntkengine.spec import from_jsonable
from service.encoding import npy
from tests.compare import assert_close
from tests.reference_kernels import arrays, of_kind
from tests.service.examples import KERNEL, MODEL, RUN, changed
from tests.service.server import JSONObject, Server, eventually

LINEAR: JSONObject = {"layers": [{"kind": "dense"}]}  # theta = x . x' / d
JSON = "application/json"
EMPIRICAL: JSONObject = {"kind": "empirical"}


def form(request: JSONObject, **files: bytes) -> dict[str, Any]:
    """What httpx makes a form of."""
    parts: dict[str, Any] = {name: (f"{name}.bin", data) for name, data in files.items()}
    return {"request": (None, json.dumps(request), "application/json"), **parts}


def ask(server: Server, request: JSONObject, accept: str = JSON, **files: bytes) -> httpx.Response:
    answer = server.client.post("/kernel", files=form(request, **files), headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer


def ntk(server: Server, request: JSONObject, **files: bytes) -> Any:
    """The one kernel that is asked for, without loss."""
    return np.load(io.BytesIO(ask(server, request, "application/x-npy", **files).content), allow_pickle=False)


@pytest.mark.parametrize("case", of_kind("finite"))
def test_reference_kernels_of_uploaded_weights(engine: Server, case: dict[str, Any]) -> None:
    known = arrays(case)
    weights = safetensors.numpy.save({name: known[name] for name in case["weights"]})
    request = {"model": case["model"], "of": EMPIRICAL | {"outputs": "full"}}
    x1, x2 = npy(known["x1"]), npy(known["x2"])
    assert_close(ntk(engine, request, x1=x1, weights=weights), known["ntk_11"], rtol=case["rtol"])
    assert_close(ntk(engine, request, x1=x1, x2=x2, weights=weights), known["ntk_12"], rtol=case["rtol"])


def test_weights_saved_as_the_hint_says(engine: Server, tmp_path: Path) -> None:
    network = from_jsonable(Model, MODEL).network((1,), seed=5)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "weights.safetensors")
    weights = (tmp_path / "weights.safetensors").read_bytes()
    drawn = ntk(engine, changed(KERNEL, "/of", EMPIRICAL | {"seed": 5}))
    assert np.array_equal(ntk(engine, changed(KERNEL, "/of", EMPIRICAL), weights=weights), drawn)


def test_weights_in_single_precision(engine: Server) -> None:
    given = {"layers.0.W": np.array([[1.0]]), "layers.0.b": np.array([0.5]), "layers.2.W": np.array([[2.0]])}
    narrow = changed(changed(KERNEL, "/model/layers/0/width", 1), "/of", EMPIRICAL)
    single = safetensors.numpy.save({name: array.astype(np.float32) for name, array in given.items()})
    answer = ask(engine, narrow, weights=single).json()
    assert answer["kernels"]["ntk"] == [[77.0625, 0.5625], [0.5625, 8.0625]]


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<f2", "<i8", "|i1", "|u1"])
def test_arrays_of_any_numbers(engine: Server, dtype: str) -> None:
    x = np.array([[1, 2], [3, 4], [5, 7]], dtype)
    request = {"model": LINEAR, "of": KERNEL["of"]}
    expected = np.array([[2.5, 5.5, 9.5], [5.5, 12.5, 21.5], [9.5, 21.5, 37.0]])
    assert_close(ntk(engine, request, x1=npy(x)), expected)
    in_columns = io.BytesIO()
    np.save(in_columns, np.asfortranarray(x))
    assert_close(ntk(engine, request, x1=in_columns.getvalue()), expected)


def test_twenty_megabytes(engine: Server) -> None:
    x = np.random.default_rng(0).normal(size=(500, 5000))
    kernel = ntk(engine, {"model": LINEAR, "of": KERNEL["of"]}, x1=npy(x))
    assert_close(kernel, x @ x.T / 5000)


def test_a_run_is_the_one_that_json_describes(engine: Server) -> None:
    data = {name: np.array(value) for name, value in RUN["data"].items()}
    weights = {"layers.0.W": np.full((1, 8), 0.5), "layers.0.b": np.ones(8), "layers.2.W": np.ones((8, 1))}
    spec = changed(changed(RUN, "/seed", ...), "/data", {"x_test": [[0.5]]})
    as_json = spec | {
        "data": RUN["data"] | spec["data"],
        "weights": {name: array.tolist() for name, array in weights.items()},
    }
    key = {"Idempotency-Key": "uploaded"}
    files = {name: npy(array) for name, array in data.items()}
    parts = form(spec, weights=safetensors.numpy.save(weights), **files)
    uploaded = engine.client.post("/runs", files=parts, headers=key)
    assert uploaded.status_code == 202, uploaded.text
    # The same key with another request would be refused.
    assert engine.create(as_json, **key) == uploaded.json()["id"]
    run_id = uploaded.json()["id"]
    shown = eventually(lambda: (run := engine.show(run_id))["status"] == "succeeded" and run)
    assert_close(shown["series"]["outputs"]["value"][0], start(weights, data["x"]))


def start(weights: dict[str, Any], x: Any) -> Any:
    """The outputs of the example's network."""
    hidden = x @ weights["layers.0.W"] + weights["layers.0.b"]
    return hidden**2 @ weights["layers.2.W"] / np.sqrt(8)


def test_x_test_and_y_test_as_files(engine: Server) -> None:
    spec = changed(RUN, "/data", ...)
    files = {name: npy(np.array(value)) for name, value in RUN["data"].items()}
    tests = {"x_test": [[0.5], [0.25]], "y_test": [[1.0], [1.0]]}
    files |= {name: npy(np.array(value)) for name, value in tests.items()}
    parts = form(spec, **files)
    answer = engine.client.post("/runs", files=parts)
    assert answer.status_code == 202, answer.text
    run = engine.show(answer.json()["id"])
    assert run["spec"]["data"] == RUN["data"] | tests


def test_the_json_may_be_a_file_or_have_no_label(engine: Server) -> None:
    text = json.dumps(KERNEL)
    expected = engine.client.post("/kernel", json=KERNEL).json()["kernels"]
    for part in (("request.json", text, "application/json"), (None, text)):
        answer = engine.client.post("/kernel", files={"request": part})
        assert answer.json()["kernels"] == expected


def test_the_document_shows_the_form(engine: Server) -> None:
    paths = engine.client.get("/openapi.json").json()["paths"]
    expected = {"/kernel": {"x1", "x2", "weights"}, "/runs": {"x", "y", "x_test", "y_test", "weights"}}
    for path, files in expected.items():
        content = paths[path]["post"]["requestBody"]["content"]
        assert list(content) == ["application/json", "multipart/form-data"]
        schema = content["multipart/form-data"]["schema"]
        assert schema["properties"].keys() == {"request"} | files
        assert all(part["description"] for part in schema["properties"].values())
        assert content["multipart/form-data"]["encoding"]["request"]["contentType"] == "application/json"


def test_the_documented_example_runs(engine: Server) -> None:
    paths = engine.client.get("/openapi.json").json()["paths"]
    x = npy(np.array([[1.0], [-1.0]]))
    for path, files in (("/kernel", {"x1": x}), ("/runs", {"x": x, "y": x})):
        schema = paths[path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        (example,) = schema["properties"]["request"]["examples"]
        answer = engine.client.post(path, files=form(example, **files))
        assert answer.is_success, answer.text


def test_pages_of_other_sites_are_refused(engine: Server) -> None:
    parts = form(KERNEL)
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        answer = engine.client.post("/kernel", files=parts, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == status, answer.text
