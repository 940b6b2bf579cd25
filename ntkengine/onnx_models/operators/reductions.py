"""Sums, means and extremes over axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ntkengine.onnx_models.node import Node
from ntkengine.onnx_models.operators.shaping import Operator, axes_of


def reduction(function: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> Operator:
    """Over `axes`: an attribute in older versions, an input in newer ones; all if there are none."""

    def run(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        wanted = axes_of(node, axes)
        if not wanted and node.get("noop_with_empty_axes", 0):
            return x
        chosen = tuple(each % x.ndim for each in wanted or range(x.ndim))
        return function(x, chosen, bool(node.get("keepdims", 1)))

    return run


def product(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """Over the axes, one at a time."""
    for axis in sorted(axes, reverse=True):
        x = x.prod(dim=axis, keepdim=keepdim)
    return x


def total(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """Over the axes, in the type of x."""
    return x.sum(dim=axes, keepdim=keepdim, dtype=x.dtype)


REDUCTIONS: Mapping[str, Any] = {
    "ReduceL1": reduction(lambda x, axes, keep: total(x.abs(), axes, keep)),
    "ReduceL2": reduction(lambda x, axes, keep: total(x.square(), axes, keep).sqrt()),
    "ReduceLogSumExp": reduction(torch.logsumexp),
    "ReduceMax": reduction(torch.amax),
    "ReduceMean": reduction(torch.mean),
    "ReduceMin": reduction(torch.amin),
    "ReduceProd": reduction(product),
    "ReduceSum": reduction(total),
    "ReduceSumSquare": reduction(lambda x, axes, keep: total(x.square(), axes, keep)),
}
