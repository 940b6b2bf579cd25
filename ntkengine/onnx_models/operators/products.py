"""Matrix products, and softmax, which goes between two of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ntkengine.onnx_models.node import Node
from ntkengine.onnx_models.operators.shaping import Operator


def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """`alpha A B + beta C`."""
    left = a.T if node.get("transA", 0) else a
    right = b.T if node.get("transB", 0) else b
    product: Tensor = node.get("alpha", 1.0) * (left @ right)
    return product if c is None else product + node.get("beta", 1.0) * c


def einsum(node: Node, *inputs: Tensor) -> Tensor:
    """The sum that `equation` says."""
    return torch.einsum(node.get("equation"), *inputs)


def along(function: Callable[[Tensor, int], Tensor]) -> Operator:
    """Along one axis from version 13 on; before, over all axes from `axis` on."""

    def run(node: Node, x: Tensor) -> Tensor:
        if node.opset >= 13:
            return function(x, node.get("axis", -1))
        axis = node.get("axis", 1) % max(x.ndim, 1)
        rows = math.prod(x.shape[:axis])
        return function(x.reshape(rows, math.prod(x.shape[axis:])), 1).reshape(x.shape)

    return run


PRODUCTS: Mapping[str, Any] = {
    "Einsum": einsum,
    "Gemm": gemm,
    "LogSoftmax": along(torch.log_softmax),
    "MatMul": lambda _, a, b: torch.matmul(a, b),
    "Softmax": along(torch.softmax),
}
