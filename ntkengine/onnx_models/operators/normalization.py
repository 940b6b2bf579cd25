"""Normalisation: by statistics in the file, or by those of the entries themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ntkengine.onnx_models.node import Node


def by_channel(tensor: Tensor, x: Tensor) -> Tensor:
    """A tensor (channels,) as one that broadcasts against x (samples, channels, ...)."""
    return tensor.reshape(-1, *(1,) * (x.ndim - 2))


def standardised(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    """Mean 0 and variance 1 over the axes."""
    centred = x - x.mean(dim=axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim=axes, keepdim=True) + epsilon)


def batch_norm(node: Node, x: Tensor, scale: Tensor, b: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """With the running statistics: each sample for itself."""
    if node.get("training_mode", 0):
        raise node.unsupported(
            "statistics of the batch make outputs depend on other samples",
            "export the model after model.eval()",
        )
    factor = scale * torch.rsqrt(var + node.number("epsilon", 1e-5))
    return (x - by_channel(mean, x)) * by_channel(factor, x) + by_channel(b, x)


def layer_norm(node: Node, x: Tensor, scale: Tensor, b: Tensor | None = None) -> Tensor:
    """Over the axes from `axis` on."""
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    y = standardised(x, axes, node.number("epsilon", 1e-5)) * scale
    return y if b is None else y + b


def rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    """Root mean square 1 over the axes from `axis` on."""
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    square = x.square().mean(dim=axes, keepdim=True)
    return x * torch.rsqrt(square + node.number("epsilon", 1e-5)) * scale


def instance_norm(node: Node, x: Tensor, scale: Tensor, b: Tensor) -> Tensor:
    """Each channel of each sample for itself."""
    y = standardised(x, tuple(range(2, x.ndim)), node.number("epsilon", 1e-5))
    return y * by_channel(scale, x) + by_channel(b, x)


def group_norm(node: Node, x: Tensor, scale: Tensor, b: Tensor) -> Tensor:
    """Scale and bias are per group before version 21, per channel from then on."""
    groups = node.get("num_groups")
    split = x.reshape(x.shape[0], groups, -1)
    y = standardised(split, (2,), node.number("epsilon", 1e-5)).reshape(x.shape)
    if node.opset < 21:
        scale, b = (each.repeat_interleave(x.shape[1] // groups) for each in (scale, b))
    return y * by_channel(scale, x) + by_channel(b, x)


NORMALIZATION: Mapping[str, Any] = {
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm,
}
