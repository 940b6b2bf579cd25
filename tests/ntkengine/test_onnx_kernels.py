"""Kernels of ONNX files as one spec."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from ntkengine import EngineError, ResourceError, SpecError, UnsupportedError, empirical_ntk
from ntkengine.onnx_kernels import OnnxKernelSpec, compute_onnx_kernel
from tests.compare import assert_close

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[n, 2] x) => (float[n, 2] y)
<float[2, 3] W = {1.0, -0.5, 0.3, 0.2, 0.7, -1.0}, float[3, 2] V = {0.4, 1.0, -0.2, 0.1, 0.9, 0.6}> {
    h = MatMul(x, W)
    a = Tanh(h)
    y = MatMul(a, V)
}"""
X = np.array([[0.5, -1.0], [2.0, 0.25], [0.0, 1.5]])


def encoded(text: str = TEXT) -> str:
    return base64.b64encode(onnx.parser.parse_model(text).SerializeToString()).decode()


def spec(**fields: Any) -> OnnxKernelSpec:
    return OnnxKernelSpec(**{"onnx": encoded(), "x1": X} | fields)


def by_torch() -> torch.nn.Sequential:
    """The same network, written by hand; its weights are rounded to float32, as in the file."""
    layers = torch.nn.Linear(2, 3, bias=False), torch.nn.Tanh(), torch.nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layers[0].weight.copy_(torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.7, -1.0]]).T)
        layers[2].weight.copy_(torch.tensor([[0.4, 1.0], [-0.2, 0.1], [0.9, 0.6]]).T)
    return torch.nn.Sequential(*layers).double()


def test_the_kernel_is_that_of_the_network() -> None:
    result = compute_onnx_kernel(spec(get=("ntk", "nngp"), outputs="full"))
    module, x = by_torch(), torch.from_numpy(X)
    assert_close(
        result.kernels["ntk"], empirical_ntk(module, x, outputs="full"), rtol=1e-6
    )  # weights: float32
    y = module(x).detach()
    assert_close(result.kernels["nngp"], torch.einsum("ia,jb->ijab", y, y), rtol=1e-12)
    assert result.diagnostics["symmetric"]
    part = compute_onnx_kernel(spec(x2=X[:1], trainable=("V",), dtype="float32"))
    assert part.dtype == "float32"
    hidden = module[:2](x).detach()
    assert_close(part.kernels["ntk"], hidden @ hidden[:1].T, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "kind", "pointer", "words"),
    [
        ({"onnx": "@@@@"}, SpecError, "/onnx", "base64"),
        ({"onnx": base64.b64encode(b"no model").decode()}, UnsupportedError, "/onnx", "ONNX"),
        ({"x1": np.zeros((2, 3))}, SpecError, "/x1", "shape"),
        ({"x2": np.zeros((2, 3))}, SpecError, "/x2", "x2"),
        ({"onnx": encoded(TEXT.replace("Tanh", "Hardmax"))}, EngineError, "/onnx", "Hardmax"),
        ({"trainable": ("U",)}, SpecError, "/onnx", "U"),
    ],
)
def test_errors_say_where(fields: dict[str, Any], kind: type[EngineError], pointer: str, words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        compute_onnx_kernel(spec(**fields))
    assert str(caught.value.pointer).startswith(pointer)


def test_limits_are_checked_before_the_work() -> None:
    with pytest.raises(ResourceError, match="flops"):
        compute_onnx_kernel(spec(), max_flops=10.0)
