"""Operators that pick entries, or put some around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntkengine.onnx_models.node import Node
from ntkengine.onnx_models.operators.convolution import pad as pad_last
from ntkengine.onnx_models.operators.shaping import axes_of, from_the_front, numbers


def picked(x: Tensor, axis: int, places: Any) -> Tensor:
    """The entries of an axis at `places`, a sequence of integers."""
    return x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))


def gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Slices of one axis, in the shape of the indices."""
    axis = node.get("axis", 0) % x.ndim
    places = from_the_front(indices, x.shape[axis]).reshape(-1)
    return x.index_select(axis, places).reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Entries by an index of their own along one axis."""
    axis = node.get("axis", 0)
    return torch.gather(x, axis, from_the_front(indices, x.shape[axis]))


def slices(
    node: Node,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """Bounds are attributes before version 10, inputs from then on."""
    first = node.get("starts") if starts is None else numbers(starts)
    last = node.get("ends") if ends is None else numbers(ends)
    along = axes_of(node, axes) or list(range(len(first)))
    by = [1] * len(first) if steps is None else numbers(steps)
    for begin, end, axis, step in zip(first, last, along, by, strict=True):
        places = range(x.shape[axis])[begin:end:step]
        whole = len(places) == x.shape[axis] and step == 1
        x = x if whole else picked(x, axis, places)
    return x


def pad(
    node: Node,
    x: Tensor,
    sizes: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    """Sizes and value are attributes before version 11, inputs from then on."""
    amounts = node.get("pads") if sizes is None else numbers(sizes)
    along = [axis % x.ndim for axis in axes_of(node, axes) or range(x.ndim)]
    pairs = dict(zip(along, zip(amounts[: len(along)], amounts[len(along) :], strict=True), strict=True))
    mode = node.get("mode", "constant")
    if mode == "constant":
        constant = node.get("value", 0.0) if value is None else value.item()
        return pad_last(x, [pairs.get(axis, (0, 0)) for axis in range(x.ndim)], constant)
    modes: Mapping[str, Any] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in modes:
        raise node.unsupported(f"padding mode {mode} has no rule")
    for axis, pair in pairs.items():
        x = picked(x, axis, np.pad(np.arange(x.shape[axis]), pair, mode=modes[mode]))
    return x


def trilu(node: Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    """The upper (`upper`) or lower triangle of the last two axes, from diagonal k."""
    diagonal = 0 if k is None else int(k.item())
    return torch.triu(x, diagonal) if node.get("upper", 1) else torch.tril(x, diagonal)


INDEXING: Mapping[str, Any] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "Pad": pad,
    "Slice": slices,
    "Trilu": trilu,
}
