"""Whatever is wrong with a form or a file in it, the answer is a problem that says where, and what to do."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from tests.service.examples import KERNEL, RUN, changed
from tests.service.problems import LYING_FILE, check_problem
from tests.service.server import Server

WITHOUT_X1 = changed(KERNEL, "/x1", ...)
EMPIRICAL = changed(changed(KERNEL, "/of", {"kind": "empirical"}), "/model/layers/0/width", 1)
WEIGHTS = {"layers.0.W": np.ones((1, 1)), "layers.0.b": np.ones(1), "layers.2.W": np.ones((1, 1))}


def saved(array: Any) -> bytes:
    """What `numpy.save` writes, and it pickles what is no number."""
    file = io.BytesIO()
    np.save(file, np.array(array), allow_pickle=True)
    return file.getvalue()


def saved_by_torch(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def weights(**other: Any) -> bytes:
    """A safetensors file of weights that fit but for the others; `...` leaves one out."""
    tensors = WEIGHTS | {name.replace("_", "."): array for name, array in other.items()}
    return safetensors.numpy.save({name: array for name, array in tensors.items() if array is not ...})


NONE = safetensors.numpy.save({})
STATE = {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}
BFLOAT16 = safetensors.torch.save({"layers.0.W": torch.ones(1, 1, dtype=torch.bfloat16)})

# path, the part `request`, the files, the pointer in the answer, a word of the hint
FORMS: dict[str, tuple[str, Any, dict[str, bytes], str, str]] = {
    "a field twice": ("/kernel", KERNEL, {"x1": saved([[1.0]])}, "/x1", "one of them"),
    "weights twice": (
        "/kernel",
        changed(EMPIRICAL, "/of/weights", {}),
        {"weights": weights()},
        "/of/weights",
        "one of them",
    ),
    "weights and a seed": (
        "/kernel",
        changed(EMPIRICAL, "/of/seed", 0),
        {"weights": weights()},
        "/of/weights",
        "one of them",
    ),
    "data twice": ("/runs", RUN, {"y": saved([[1.0], [1.0]])}, "/data/y", "one of them"),
    "a part of another endpoint": ("/kernel", KERNEL, {"y": saved([[1.0]])}, "y", "request, x1, x2, weights"),
    "a part with an endless name": ("/kernel", KERNEL, {"z" * 3000: b""}, "z" * 3000, "x1, x2"),
    "nowhere to put it": (
        "/runs",
        changed(RUN, "/data", 3),
        {"x": saved([[1.0]])},
        "/data",
        "object",
    ),
    "a request that is a list": ("/kernel", [1], {"x1": saved([[1.0]])}, "", "object"),
    "no array and none in the JSON": ("/kernel", WITHOUT_X1, {}, "/x1", "Add"),
    "a file with no bytes": ("/kernel", WITHOUT_X1, {"x1": b""}, "/x1", "numpy.save"),
    "a file that is no array": ("/kernel", WITHOUT_X1, {"x1": b"1,2\n3,4\n"}, "/x1", "numpy.save"),
    "a file that lies": ("/kernel", WITHOUT_X1, {"x1": LYING_FILE}, "/x1", "numpy.save"),
    "a file cut short": ("/kernel", WITHOUT_X1, {"x1": saved([[1.0], [2.0]])[:-1]}, "/x1", "numpy.save"),
    "a header out of range": (
        "/kernel",
        WITHOUT_X1,
        {"x1": saved([[1.0]]).replace(b"'<f8'", b"()   ")},
        "/x1",
        "numpy.save",
    ),
    "a pickled array": ("/kernel", WITHOUT_X1, {"x1": saved([{"a": 1}])}, "/x1", "allow_pickle=False"),
    "an array of text": ("/kernel", WITHOUT_X1, {"x1": saved([["a"]])}, "/x1", "numbers"),
    "an array of truth values": ("/kernel", WITHOUT_X1, {"x1": saved([[True]])}, "/x1", "numbers"),
    "complex numbers": ("/kernel", WITHOUT_X1, {"x1": saved([[1j]])}, "/x1", "numbers"),
    "an empty array": ("/kernel", WITHOUT_X1, {"x1": saved(np.zeros((0, 3)))}, "/x1", ""),
    "a NaN in an array": ("/kernel", WITHOUT_X1, {"x1": saved([[1.0], [np.nan]])}, "/x1", ""),
    "an array that does not fit": ("/kernel", KERNEL, {"x2": saved([[1.0, 2.0]])}, "/x2", "columns"),
    "targets that do not fit": (
        "/runs",
        changed(RUN, "/data/y", ...),
        {"y": saved([[1.0]])},
        "/data/y",
        "",
    ),
    "weights where none belong": ("/kernel", KERNEL, {"weights": weights()}, "/of/weights", "Remove"),
    "weights of torch.save": (
        "/kernel",
        EMPIRICAL,
        {"weights": saved_by_torch(STATE)},
        "/of/weights",
        "safetensors.torch.save_file(network.state_dict(), path)",
    ),
    "weights of an older torch.save": (
        "/kernel",
        EMPIRICAL,
        {"weights": saved_by_torch(STATE, _use_new_zipfile_serialization=False)},
        "/of/weights",
        "safetensors.torch.save_file(network.state_dict(), path)",
    ),
    "weights of a run by torch.save": (
        "/runs",
        changed(RUN, "/seed", ...),
        {"weights": saved_by_torch(STATE)},
        "/weights",
        "safetensors.torch.save_file(network.state_dict(), path)",
    ),
    "weights cut short": ("/kernel", EMPIRICAL, {"weights": weights()[:-1]}, "/of/weights", "save_file"),
    "no weights": (
        "/kernel",
        EMPIRICAL,
        {"weights": NONE},
        "/of/weights",
        "layers.0.W",
    ),
    "missing weights": (
        "/kernel",
        EMPIRICAL,
        {"weights": weights(layers_2_W=...)},
        "/of/weights",
        "layers.2.W",
    ),
    "unknown weights": (
        "/kernel",
        EMPIRICAL,
        {"weights": weights(layers_4_W=np.ones((1, 1)))},
        "/of/weights/layers.4.W",
        "layers.2.W",
    ),
    "weights of a wrong shape": (
        "/kernel",
        EMPIRICAL,
        {"weights": weights(layers_0_W=np.ones((2, 1)))},
        "/of/weights/layers.0.W",
        "fan-in",
    ),
    "weights that are NaN": (
        "/kernel",
        EMPIRICAL,
        {"weights": weights(layers_0_b=np.array([np.nan]))},
        "/of/weights/layers.0.b",
        "",
    ),
    "weights in half precision": (
        "/kernel",
        EMPIRICAL,
        {"weights": BFLOAT16},
        "/of/weights/layers.0.W",
        "float64",
    ),
    "integers as weights": (
        "/kernel",
        EMPIRICAL,
        {"weights": weights(layers_0_W=np.ones((1, 1), int))},
        "/of/weights/layers.0.W",
        "float64",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_bad_form(client: httpx.Client, name: str) -> None:
    path, request, files, pointer, advice = FORMS[name]
    parts: dict[str, Any] = {part: ("file", data) for part, data in files.items()}
    parts["request"] = (None, json.dumps(request), "application/json")
    problem = check_problem(client.post(path, files=parts), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert advice in problem["hint"]
    assert len(problem["detail"]) < 500


def test_a_form_without_its_request(client: httpx.Client) -> None:
    problem = check_problem(client.post("/kernel", files={"x1": ("x1.npy", saved([[1.0]]))}), 422)
    assert problem["errors"][0]["pointer"] == "request"
    assert "type=application/json" in problem["hint"]


def test_json_in_a_part_is_read_as_strictly(client: httpx.Client) -> None:
    def post(text: str, media: str) -> httpx.Response:
        return client.post("/kernel", files={"request": (None, text, media)})

    check_problem(post('{"model": ', "application/json"), 400)
    problem = check_problem(post(json.dumps(KERNEL).replace("-1.0", "NaN"), "application/json"), 422)
    assert problem["errors"][0]["pointer"] == "/x1/1/0"
    problem = check_problem(post(json.dumps(KERNEL), "text/csv"), 415)
    assert problem["errors"][0]["pointer"] == "request"


HEAD = b'--B\r\nContent-Disposition: form-data; name="request"\r\n\r\n'
WHOLE = HEAD + json.dumps(KERNEL).encode() + b"\r\n--B--\r\n"

BROKEN_FORMS = {
    "nothing": b"",
    "no form": json.dumps(KERNEL).encode(),
    "another boundary": WHOLE.replace(b"--B", b"--C"),
    "cut in a head": WHOLE[:20],
    "cut in a part": WHOLE[:200],
    "cut before the last boundary": WHOLE[:-7],
    "cut in the last boundary": WHOLE[:-4],
    "a head without end": b"--B\r\nContent-Disposition: " + b"x" * 100_000,
    "heads without end": b"--B\r\n" + b"X: y\r\n" * 10_000 + WHOLE,
}


@pytest.mark.parametrize("name", BROKEN_FORMS)
def test_broken_form(client: httpx.Client, name: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    assert client.post("/kernel", content=WHOLE, headers=headers).is_success
    check_problem(client.post("/kernel", content=BROKEN_FORMS[name], headers=headers), 400)


@pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'B' * 1000}"])
def test_bad_boundary(client: httpx.Client, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    check_problem(client.post("/kernel", content=WHOLE, headers=headers), 400)


def test_parts_without_a_name_or_twice(client: httpx.Client) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    nameless = WHOLE.replace(b'; name="request"', b"")
    problem = check_problem(client.post("/kernel", content=nameless, headers=headers), 422)
    assert problem["errors"][0]["pointer"] == ""
    twice = WHOLE.replace(b"--B--", HEAD + b"{}\r\n--B--")
    problem = check_problem(client.post("/kernel", content=twice, headers=headers), 422)
    assert problem["errors"][0]["pointer"] == "request"


@pytest.mark.parametrize("media", ["multipart/mixed", "multipart/form-data-2", "multipart"])
def test_other_sorts_of_parts(client: httpx.Client, media: str) -> None:
    check_problem(
        client.post("/kernel", content=WHOLE, headers={"Content-Type": f"{media}; boundary=B"}), 415
    )


def test_a_form_over_the_limit(client: httpx.Client) -> None:
    """The limit is on the sum of all parts."""
    half = bytes(33 * 2**20)
    parts: dict[str, Any] = {"request": (None, json.dumps(KERNEL)), "x1": ("1", half), "x2": ("2", half)}
    check_problem(client.post("/kernel", files=parts), 413)


def peak_mb(server: Server) -> int:
    """The most memory that the web process has had."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def test_short_numbers_do_not_fill_the_memory(double: Server) -> None:
    short = saved(np.zeros((10**7, 1), np.int8))
    encoded = {"kind": "npy", "base64": base64.b64encode(short).decode()}
    before = peak_mb(double)
    parts: dict[str, Any] = {"request": (None, json.dumps(WITHOUT_X1)), "x1": ("x1", short)}
    as_file = double.client.post("/kernel", files=parts)
    in_json = double.client.post("/kernel", json=changed(KERNEL, "/x1", encoded))
    text = json.dumps(changed(KERNEL, "/x1", "here")).replace('"here"', f"[[{'0,' * 5_000_000}0]]")
    as_text = double.client.post("/kernel", content=text, headers={"Content-Type": "application/json"})
    for answer in (as_file, in_json, as_text):
        assert "data set" in check_problem(answer, 413)["hint"]
    assert peak_mb(double) - before < 200
