"""Convolutions, channels first, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ntkengine.onnx_models.node import Node

CONV: Mapping[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
CONV_TRANSPOSE: Mapping[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def by_dimension(node: Node, table: Mapping[int, Any], rank: int) -> Any:
    """The function for this many spatial dimensions."""
    if rank not in table:
        raise node.unsupported(f"{rank} spatial dimensions have no rule, 1 to 3 have")
    return table[rank]


def strides_and_dilations(node: Node, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both, one a spatial axis; 1 where the node does not say."""
    ones = (1,) * rank
    return tuple(node.get("strides", ones)), tuple(node.get("dilations", ones))


def spans(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """How many entries a window reaches over, axis by axis."""
    return [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]


def halves(totals: Sequence[int], auto: str) -> list[tuple[int, int]]:
    """Each total in two, the odd one at the end for SAME_UPPER, at the beginning otherwise."""
    small = [(total // 2, total - total // 2) for total in totals]
    return small if auto == "SAME_UPPER" else [(end, begin) for begin, end in small]


def same(node: Node) -> bool:
    """Whether padding is to keep sizes, up to strides."""
    return node.get("auto_pad") in {"SAME_UPPER", "SAME_LOWER"}


def paddings(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """What is put before and after each spatial axis."""
    rank = len(sizes)
    strides, dilations = strides_and_dilations(node, rank)
    if same(node):
        wanted = zip(sizes, strides, spans(kernel, dilations), strict=True)
        totals = [max((-(-size // stride) - 1) * stride + span - size, 0) for size, stride, span in wanted]
        return halves(totals, node.get("auto_pad"))
    if node.get("auto_pad", "NOTSET") == "VALID":
        return [(0, 0)] * rank
    pads = node.get("pads", (0,) * 2 * rank)
    return list(zip(pads[:rank], pads[rank:], strict=True))


def pad(x: Tensor, pairs: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Constants around the last axes of x; negative sizes cut."""
    flat = [size for pair in reversed(pairs) for size in pair]
    return functional.pad(x, flat, value=value) if any(flat) else x


def padded(node: Node, x: Tensor, kernel: Sequence[int]) -> Tensor:
    """The input with the zeros that the node asks for around it."""
    return pad(x, paddings(node, x.shape[2:], kernel))


def conv(node: Node, x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
    """`y[i, c, p] = sum_{d, q} W[c, d, q] x[i, d, s p + q] + b[c]`."""
    rank = W.ndim - 2
    strides, dilations = strides_and_dilations(node, rank)
    function = by_dimension(node, CONV, rank)
    y: Tensor = function(padded(node, x, W.shape[2:]), W, b, strides, 0, dilations, node.get("group", 1))
    return y


def conv_transpose(node: Node, x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
    """The whole transpose first, then cut to size: `pads` cut, `output_padding` adds at the end."""
    rank = W.ndim - 2
    strides, dilations = strides_and_dilations(node, rank)
    function = by_dimension(node, CONV_TRANSPOSE, rank)
    whole = function(x, W, None, strides, 0, 0, node.get("group", 1), dilations)
    extra = node.get("output_padding", (0,) * rank)
    shape = node.get("output_shape")
    if shape is None and same(node):
        shape = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    if shape is None:
        cuts = paddings(node, x.shape[2:], W.shape[2:])
    else:
        sizes = zip(whole.shape[2:], extra, shape, strict=True)
        cuts = halves([size + more - wanted for size, more, wanted in sizes], node.get("auto_pad", "NOTSET"))
    y = pad(whole, [(-begin, more - end) for (begin, end), more in zip(cuts, extra, strict=True)])
    return y if b is None else y + b.reshape(-1, *(1,) * rank)


def global_average(_: Node, x: Tensor) -> Tensor:
    """Over all positions."""
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def global_max(_: Node, x: Tensor) -> Tensor:
    """Over all positions."""
    return torch.amax(x, dim=tuple(range(2, x.ndim)), keepdim=True)


CONVOLUTIONS: Mapping[str, Any] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_max,
}
