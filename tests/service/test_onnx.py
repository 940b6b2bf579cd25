"""Existing models, sent as ONNX files."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import onnx

from tests.compare import assert_close
from tests.service.problems import check_problem
from tests.service.server import Server

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[n, 2] x) => (float[n, 1] y) <float[2, 1] W = {1.0, 2.0}> { y = MatMul(x, W) }"""
FILE = onnx.parser.parse_model(TEXT).SerializeToString()
X = [[1.0, 0.0], [0.6, 0.8]]
PLAIN = {"onnx": base64.b64encode(FILE).decode(), "x1": X}


def test_the_kernel_of_a_file(engine: Server) -> None:
    """The kernel of a linear model is that of the inputs, `x . x'`."""
    answer = engine.client.post("/kernel/onnx", json=PLAIN)
    assert answer.status_code == 200, answer.text
    assert_close(np.array(answer.json()["kernels"]["ntk"]), [[1.0, 0.6], [0.6, 1.0]])
    assert answer.json()["method"]["kind"] == "empirical"


def test_as_a_form(engine: Server) -> None:
    array = io.BytesIO()
    np.save(array, np.array(X))
    files = {"onnx": FILE, "x1": array.getvalue()}
    answer = engine.client.post("/kernel/onnx", data={"request": '{"outputs": "full"}'}, files=files)
    assert answer.status_code == 200, answer.text
    assert answer.json()["shape"] == [2, 2, 1, 1]


def test_what_cannot_be_read_is_refused_by_name(engine: Server) -> None:
    hardmax = onnx.parser.parse_model(TEXT.replace("MatMul(x, W)", "Hardmax(x)")).SerializeToString()
    changes: list[tuple[dict[str, Any], str, str]] = [
        ({"onnx": base64.b64encode(hardmax).decode()}, "/onnx", "Hardmax"),
        ({"onnx": "AAAA"}, "/onnx", "ONNX"),
        ({"onnx": "@@@@"}, "/onnx", "base64"),
        ({"x1": [[1.0]]}, "/x1", "shape"),
    ]
    for change, pointer, words in changes:
        answer = engine.client.post("/kernel/onnx", json=PLAIN | change)
        problem = check_problem(answer, 422)
        assert problem["errors"][0]["pointer"].startswith(pointer)
        assert words in answer.text
