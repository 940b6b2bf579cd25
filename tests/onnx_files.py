"""ONNX files that tests make, and what ONNX's own reference says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx.reference")
helper = onnx.helper
Array = NDArray[Any]


def file(
    nodes: Sequence[Any],
    inputs: Mapping[str, Array],
    tensors: Mapping[str, Array],
    *,
    opset: int,
    output: int = 11,  # double
    ndim: int = 2,
    fixed: bool = False,
) -> Any:
    """A model with output `y` of `ndim` axes; axis 0 of the inputs is open unless `fixed`."""
    shapes = {name: [x.shape[0] if fixed else "n", *x.shape[1:]] for name, x in inputs.items()}
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), shapes[name])
            for name, x in inputs.items()
        ],
        [helper.make_tensor_value_info("y", output, [None] * ndim)],
        [onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def reference(model: Any, inputs: Mapping[str, Array]) -> Array:
    result: Array = onnx.reference.ReferenceEvaluator(model).run(None, dict(inputs))[0]
    return result
