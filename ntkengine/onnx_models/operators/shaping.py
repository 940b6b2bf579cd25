"""Operators that move entries without changing them, and those that speak about shapes.

Shapes are small integer tensors that no sample's entries go into: reading them as numbers is safe under
`torch.func`, and a batch may be of any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ntkengine.onnx_models.node import Node

Operator: TypeAlias = Callable[..., Tensor | tuple[Tensor, ...]]


def numbers(tensor: Tensor) -> list[int]:
    """The entries of a shape."""
    return [int(each) for each in tensor.reshape(-1).tolist()]


def axes_of(node: Node, given: Tensor | None) -> list[int] | None:
    """Axes come as an attribute in older versions, as an input in newer ones."""
    if given is not None:
        return numbers(given)
    axes = node.get("axes")
    return None if axes is None else list(axes)


def from_the_front(indices: Tensor, size: int) -> Tensor:
    """Negative indices count from the end."""
    return torch.where(indices < 0, indices + size, indices)


def flatten(node: Node, x: Tensor) -> Tensor:
    """Two axes: those before `axis`, and those from it on."""
    axis = node.get("axis", 1)
    split = axis if axis >= 0 else axis + x.ndim
    return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))


def reshape(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    """A size of 0 keeps that of x, unless `allowzero`."""
    sizes = numbers(shape)
    if not node.get("allowzero", 0):
        sizes = [size or x.shape[axis] for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def transpose(node: Node, x: Tensor) -> Tensor:
    """Axes in the order `perm`, by default reversed."""
    return x.permute(node.get("perm", tuple(reversed(range(x.ndim)))))


def squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Without these axes of size 1, by default without any such."""
    wanted = axes_of(node, axes)
    return x.squeeze() if wanted is None else x.squeeze(tuple(wanted))


def unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """With new axes of size 1 at these places of the result."""
    wanted = axes_of(node, axes) or []
    ndim = x.ndim + len(wanted)
    for axis in sorted(each % ndim for each in wanted):
        x = x.unsqueeze(axis)
    return x


def concat(node: Node, *inputs: Tensor) -> Tensor:
    """One after the other along `axis`."""
    return torch.cat(inputs, dim=node.get("axis"))


def split(node: Node, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    """By sizes (an attribute before version 13), else into equal parts, of which the last may be smaller."""
    axis = node.get("axis", 0)
    wanted = node.get("split") if sizes is None else numbers(sizes)
    if wanted is None:
        length, count = x.shape[axis], len(node.outputs)
        part = -(-length // count)
        wanted = [part] * (count - 1) + [length - part * (count - 1)]
    return torch.split(x, list(wanted), dim=axis)


def expand(_: Node, x: Tensor, shape: Tensor) -> Tensor:
    """Broadcast against a shape."""
    return torch.broadcast_to(x, torch.broadcast_shapes(x.shape, numbers(shape)))  # type: ignore[no-untyped-call]


def tile(_: Node, x: Tensor, repeats: Tensor) -> Tensor:
    """Repeated along every axis."""
    return x.repeat(numbers(repeats))


def shape(node: Node, x: Tensor) -> Tensor:
    """The sizes from axis `start` to before `end`."""
    return torch.tensor(x.shape[node.get("start", 0) : node.get("end")], dtype=torch.int64, device=x.device)


def size(_: Node, x: Tensor) -> Tensor:
    """The number of entries."""
    return torch.tensor(x.numel(), dtype=torch.int64, device=x.device)


def constant_of_shape(_: Node, sizes: Tensor, value: Tensor) -> Tensor:
    """One value everywhere."""
    return value.reshape(()).expand(numbers(sizes))


def arange(_: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """`start + delta i`, as many as stay before the limit."""
    count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
    return start + delta * torch.arange(count, dtype=start.dtype, device=start.device)


SHAPING: Mapping[str, Any] = {
    "Concat": concat,
    "Constant": None,  # a tensor by the time that nodes run
    "ConstantOfShape": constant_of_shape,
    "Expand": expand,
    "Flatten": flatten,
    "Range": arange,
    "Reshape": reshape,
    "Shape": shape,
    "Size": size,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
