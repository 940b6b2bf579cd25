"""Pooling over windows, channels first, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ntkengine.onnx_models.node import Node
from ntkengine.onnx_models.operators.convolution import (
    CONV,
    by_dimension,
    pad,
    paddings,
    same,
    spans,
    strides_and_dilations,
)

MAX: Mapping[int, Any] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


def overhangs(
    node: Node, sizes: Sequence[int], pairs: Sequence[tuple[int, int]], kernel: Sequence[int]
) -> list[int]:
    """How far the last window reaches past the padding, which `ceil_mode` lets it do.

    A window that would start behind the entries and their leading padding is left out.
    """
    strides, dilations = strides_and_dilations(node, len(sizes))
    if same(node) or not node.get("ceil_mode", 0):
        return [0] * len(sizes)
    result = []
    for size, (begin, end), span, stride in zip(sizes, pairs, spans(kernel, dilations), strides, strict=True):
        last = -(-(size + begin + end - span) // stride)
        last -= last * stride >= size + begin
        result.append(max(last * stride + span - (size + begin + end), 0))
    return result


def average_pool(node: Node, x: Tensor) -> Tensor:
    """Sums over windows, divided by the entries that count; padding does with `count_include_pad`."""
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    strides, dilations = strides_and_dilations(node, rank)
    convolve = by_dimension(node, CONV, rank)
    pairs = paddings(node, x.shape[2:], kernel)
    past = [(0, more) for more in overhangs(node, x.shape[2:], pairs, kernel)]
    ones = x.new_ones(1, 1, *kernel)

    def sums(values: Tensor) -> Tensor:
        result: Tensor = convolve(values, ones, None, strides, 0, dilations)
        return result

    counted = x.new_ones(1, 1, *x.shape[2:])
    counts = sums(pad(pad(counted, pairs, float(node.get("count_include_pad", 0))), past))
    flat = pad(pad(x, pairs), past).flatten(0, 1)[:, None]
    return (sums(flat) / counts).reshape(*x.shape[:2], *counts.shape[2:])


def max_pool(node: Node, x: Tensor) -> Tensor:
    """Largest entries of windows; padding never wins."""
    kernel = node.get("kernel_shape")
    strides, dilations = strides_and_dilations(node, len(kernel))
    function = by_dimension(node, MAX, len(kernel))
    pairs = paddings(node, x.shape[2:], kernel)
    past = [(0, more) for more in overhangs(node, x.shape[2:], pairs, kernel)]
    around = pad(pad(x, pairs, -torch.inf), past, -torch.inf)
    y: Tensor = function(around, kernel, strides, 0, dilations)
    return y


POOLING: Mapping[str, Any] = {"AveragePool": average_pool, "MaxPool": max_pool}
