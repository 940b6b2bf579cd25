"""POST /kernel, with the real engine."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from ntkengine.errors import ResourceError
from service.runs.limits import check_json_size
from service.settings import Settings
from tests.service.examples import KERNEL, changed
from tests.service.server import Server

UNIFORM = {
    "layers": [
        {
            "kind": "dense",
            "W_law": {"kind": "uniform", "half_width": 1.0},
            "b_std": 1.0,
            "b_law": {"kind": "uniform", "half_width": 0.5},
        },
        {"kind": "quadratic"},
        {"kind": "dense", "width": 1, "W_law": {"kind": "uniform", "half_width": 1.0}},
    ]
}
NOTES_WEIGHTS = {"layers.0.W": [[1.0]], "layers.0.b": [0.5], "layers.2.W": [[2.0]]}
NARROW = changed(KERNEL, "/model/layers/0/width", 1)


def test_infinite_width(engine: Server) -> None:
    answer = engine.client.post("/kernel", json=changed(KERNEL, "/model", UNIFORM)).json()
    expected = np.array([[1073 / 720, 113 / 720], [113 / 720, 1073 / 720]])
    np.testing.assert_allclose(answer["kernels"]["ntk"], expected, rtol=1e-12)
    assert answer["shape"] == [2, 2]
    assert answer["scaling"]["width_power"] == 0
    assert answer["scaling"]["constant_in_training"] is True
    assert answer["diagnostics"]["symmetric"] is True
    names = {
        "kernels",
        "shape",
        "dtype",
        "outputs",
        "method",
        "plan",
        "scaling",
        "diagnostics",
        "warnings",
        "seconds",
    }
    assert set(answer) == names


def test_given_weights(engine: Server) -> None:
    of = {"kind": "empirical", "weights": NOTES_WEIGHTS}
    answer = engine.client.post("/kernel", json=changed(NARROW, "/of", of)).json()
    assert answer["kernels"]["ntk"] == [[77.0625, 0.5625], [0.5625, 8.0625]]


def test_numbers_survive_the_way(engine: Server) -> None:
    body = changed(KERNEL, "/of", {"kind": "empirical", "seed": 3})
    listed = np.array(engine.client.post("/kernel", json=body).json()["kernels"]["ntk"])
    binary = engine.client.post("/kernel", json=body, headers={"Accept": "application/x-npy"})
    assert binary.headers["content-type"] == "application/x-npy"
    assert np.array_equal(np.load(io.BytesIO(binary.content)), listed)


def test_two_kernels_in_an_archive(engine: Server) -> None:
    body = changed(KERNEL, "/of/get", ["nngp", "ntk"])
    answer = engine.client.post("/kernel", json=body, headers={"Accept": "application/x-npz"})
    with np.load(io.BytesIO(answer.content)) as archive:
        assert set(archive.files) == {"nngp", "ntk", "about"}
        about = json.loads(archive["about"].item())
    listed = engine.client.post("/kernel", json=body).json()
    same = ("dtype", "outputs", "method", "plan", "scaling", "diagnostics", "warnings")
    assert {name: about[name] for name in same} == {name: listed[name] for name in same}
    refused = engine.client.post("/kernel", json=body, headers={"Accept": "application/x-npy"})
    assert refused.status_code == 406


def test_digits(engine: Server) -> None:
    body = changed(KERNEL, "/x1", {"kind": "dataset", "name": "digits", "limit": 20})
    assert engine.client.post("/kernel", json=body).json()["shape"] == [20, 20]


def test_large_answers_are_binary_only() -> None:
    with pytest.raises(ResourceError, match="numbers in JSON") as caught:
        check_json_size(1_000_001, Settings())
    assert "x-npy" in (caught.value.hint or "")
