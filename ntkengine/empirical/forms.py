"""How tensors of a module enter its outputs: what structured derivatives need to know of its kind.

A form reads what the tensors multiply from the module's input, and the derivatives of its output in the same
layout, with positions on one axis. From these come gradients of the tensors, or directly their share.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional

from ntkengine.blocks import (
    Contraction,
    Derivatives,
    Gradients,
    LinearMap,
    Shares,
    Sums,
    from_pairs,
    gradients_block,
    separate_block,
    shared_block,
)
from ntkengine.network import LayerModule

if TYPE_CHECKING:
    from torch import Tensor


LayerShare = Derivatives | Gradients
Recorder = Callable[["Tensor", "Tensor"], "Tensor"]  # of what tensors read and gave; returns what goes on


class Form(ABC):
    """Some tensors of one kind of module."""

    tensors: tuple[str, ...]  # those of the module that it accounts for

    @abstractmethod
    def fits(self, module: Any) -> bool:
        """Whether this module's settings are covered."""

    @abstractmethod
    def sums(self, module: Any, h: Tensor, y: Tensor) -> Sums:
        """What the tensors do to an input h (n, ...), whose output is y."""

    @abstractmethod
    def read(self, module: Any, h: Tensor) -> Tensor:
        """What the tensors multiply, (n, positions, numbers)."""

    def given(self, module: Any, g: Tensor) -> Tensor:
        """Derivatives (n, *output) of one of the network's outputs as (n, positions, width)."""
        return g.reshape(len(g), -1, g.shape[-1])

    def watched(self, module: Any, record: Recorder) -> Callable[[], None]:
        """Record every call of the module, until the call of what is returned."""

        def hook(_: Any, args: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> Tensor:
            h = args[0] if args else next(iter(named.values()))
            return record(h, self.passing_back(module, h, output) if h.requires_grad else output)

        handle = module.register_forward_hook(hook, with_kwargs=True)
        return cast("Callable[[], None]", handle.remove)

    def passing_back(self, module: Any, h: Tensor, output: Tensor) -> Tensor:
        """The output, of which derivatives go back to the input, for all outputs of the network at once."""
        return output

    @abstractmethod
    def squares(self, module: Any, weights: Shares) -> tuple[float, float]:
        """The squared multipliers of weights and bias, times the weights of their shares; 0 without bias."""

    def pairs(
        self, module: Any, left: Derivatives, right: Derivatives, contraction: Contraction, weights: Shares
    ) -> Tensor:
        """The share of the module's tensors in the NTK, each times its weight, from pairs of positions."""
        return shared_block(left, right, contraction, self.squares(module, weights))

    def block(
        self, module: Any, left: LayerShare, right: LayerShare, contraction: Contraction, weights: Shares
    ) -> Tensor:
        """The share in the NTK, from whichever was computed."""
        if isinstance(left, Gradients) and isinstance(right, Gradients):
            return gradients_block(left, right, contraction, self.squares(module, weights))
        if isinstance(left, Derivatives) and isinstance(right, Derivatives):
            return self.pairs(module, left, right, contraction, weights)
        raise TypeError("both sides of a block are computed in the same way")


class LinearMapForm(Form):
    """A linear map of a layer of a spec, which knows its own form."""

    def __init__(self, linear_map: LinearMap) -> None:
        self.linear_map = linear_map
        self.tensors = linear_map.tensors

    def fits(self, module: LayerModule) -> bool:
        return True

    def sums(self, module: LayerModule, h: Tensor, y: Tensor) -> Sums:
        return self.linear_map.sums

    def read(self, module: LayerModule, h: Tensor) -> Tensor:
        return module.site.layer.read(module.site, h)

    def given(self, module: LayerModule, g: Tensor) -> Tensor:
        return g.reshape(len(g), self.linear_map.sums.positions, -1)

    def watched(self, module: LayerModule, record: Recorder) -> Callable[[], None]:
        """By the layer itself, which may have several linear maps."""
        name = self.tensors[0]
        module.recorders[name] = record

        def end() -> None:
            del module.recorders[name]

        return end

    def squares(self, module: LayerModule, weights: Shares) -> tuple[float, float]:
        return self.linear_map.scales(weights)

    def pairs(
        self,
        module: LayerModule,
        left: Derivatives,
        right: Derivatives,
        contraction: Contraction,
        weights: Shares,
    ) -> Tensor:
        block = shared_block if self.linear_map.sums.shared else separate_block
        return block(left, right, contraction, self.squares(module, weights))


class Plain(Form):
    """Weights that are the same at all positions, with multiplier 1, and a bias."""

    tensors = ("weight", "bias")

    def squares(self, module: Any, weights: Shares) -> tuple[float, float]:
        return weights.get("weight", 0.0), weights.get("bias", 0.0)


class LinearForm(Plain):
    """`y[p] = W h[p] + b`."""

    def fits(self, module: nn.Linear) -> bool:
        return True

    def sums(self, module: nn.Linear, h: Tensor, y: Tensor) -> Sums:
        return Sums(math.prod(h.shape[1:-1]), h.shape[-1], y.shape[-1])

    def read(self, module: nn.Linear, h: Tensor) -> Tensor:
        return h.reshape(len(h), -1, h.shape[-1])


class ConvForm(Plain):
    """Convolutions in 1, 2 and 3 dimensions, channels first; each position reads a patch."""

    def fits(self, module: Any) -> bool:
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)

    def sums(self, module: Any, h: Tensor, y: Tensor) -> Sums:
        fan_in = math.prod(module.kernel_size) * module.in_channels // module.groups
        return Sums(math.prod(y.shape[2:]), fan_in, module.out_channels, groups=module.groups)

    def read(self, module: Any, h: Tensor) -> Tensor:
        """Patches with the channels of a group innermost, which are copied in longer pieces than taps are."""
        around = [side for p in reversed(module.padding) for side in (p, p)]
        padded = functional.pad(h.movedim(1, -1), [0, 0, *around]).contiguous()
        windows = padded.reshape(*padded.shape[:-1], module.groups, -1)
        axes = range(1, h.ndim - 1)
        for axis, taps, stride, dilation in zip(
            axes, module.kernel_size, module.stride, module.dilation, strict=True
        ):
            windows = windows.unfold(axis, dilation * (taps - 1) + 1, stride)[..., ::dilation]
        patches: Tensor = windows.movedim(
            len(axes) + 2, -1
        )  # (n, *places, groups, *taps, channels of a group)
        return patches.flatten(1, len(axes)).flatten(2)

    def given(self, module: Any, g: Tensor) -> Tensor:
        return channels_last(g)

    def passing_back(self, module: Any, h: Tensor, output: Tensor) -> Tensor:
        passed: Tensor = Convolved.apply(h, output.detach(), module)  # type: ignore[no-untyped-call]
        return passed


class Convolved(torch.autograd.Function):
    """The output of a convolution, whose derivatives go back by a transposed one: this is mapped over the
    network's outputs as one call, where that of torch is repeated for each."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, output: Tensor, module: Any) -> Tensor:
        ctx.module, ctx.sizes = module, h.shape[2:]
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        module: Any = ctx.module
        settings = zip(module.kernel_size, module.stride, module.padding, module.dilation, strict=True)
        least = [
            (size - 1) * stride - 2 * padding + dilation * (taps - 1) + 1
            for size, (taps, stride, padding, dilation) in zip(g.shape[2:], settings, strict=True)
        ]
        beyond = [size - each for size, each in zip(ctx.sizes, least, strict=True)]  # which no patch reached
        how = module.stride, module.padding, module.dilation, True, beyond, module.groups
        return torch.convolution(g, module.weight, None, *how), None, None


class EmbeddingForm(Form):
    """`y[p] = W[token[p]]`: positions share weights if they have the same token; padding has none."""

    tensors = ("weight",)

    def fits(self, module: nn.Embedding) -> bool:
        return module.max_norm is None and not module.scale_grad_by_freq

    def sums(self, module: nn.Embedding, h: Tensor, y: Tensor) -> Sums:
        return Sums(math.prod(h.shape[1:]), 1, module.embedding_dim, tokens=True)

    def read(self, module: nn.Embedding, h: Tensor) -> Tensor:
        return h.reshape(len(h), -1, 1)

    def squares(self, module: nn.Embedding, weights: Shares) -> tuple[float, float]:
        return weights["weight"], 0.0

    def pairs(
        self, module: Any, left: Derivatives, right: Derivatives, contraction: Contraction, weights: Shares
    ) -> Tensor:
        first, second = left.h[:, None, :, None, 0], right.h[None, :, None, :, 0]
        same = first == second
        if module.padding_idx is not None:
            same &= first != module.padding_idx
        return from_pairs(left, right, contraction, same.to(left.g.dtype) * weights["weight"])


class ScaleForm(Plain):
    """The scale and shift of a normalisation: `y[p, c] = w[c] h[p, c] + b[c]`, h the normalised input; each
    channel is a group."""

    @abstractmethod
    def normalised(self, module: Any, h: Tensor) -> Tensor:
        """The output before scale and shift, in the layout of the input."""

    def by_channel(self, module: Any, values: Tensor) -> Tensor:
        """(n, ...) as (n, positions, channels)."""
        return channels_last(values)

    def sums(self, module: Any, h: Tensor, y: Tensor) -> Sums:
        positions, channels = self.by_channel(module, h).shape[1:]
        return Sums(positions, 1, channels, groups=channels)

    def read(self, module: Any, h: Tensor) -> Tensor:
        return self.by_channel(module, self.normalised(module, h))

    def given(self, module: Any, g: Tensor) -> Tensor:
        return self.by_channel(module, g)


class LayerNormForm(ScaleForm):
    """Statistics over the last axes."""

    def fits(self, module: nn.LayerNorm) -> bool:
        return module.elementwise_affine

    def normalised(self, module: nn.LayerNorm, h: Tensor) -> Tensor:
        return functional.layer_norm(h, list(module.normalized_shape), None, None, module.eps)

    def by_channel(self, module: nn.LayerNorm, values: Tensor) -> Tensor:
        return values.reshape(len(values), -1, math.prod(module.normalized_shape))


class GroupNormForm(ScaleForm):
    """Statistics over groups of channels, channels first."""

    def fits(self, module: nn.GroupNorm) -> bool:
        return module.affine

    def normalised(self, module: nn.GroupNorm, h: Tensor) -> Tensor:
        return functional.group_norm(h, module.num_groups, None, None, module.eps)


class BatchNormForm(ScaleForm):
    """Running statistics, in eval mode, channels first."""

    def fits(self, module: Any) -> bool:
        return bool(module.affine and not module.training and module.running_mean is not None)

    def normalised(self, module: Any, h: Tensor) -> Tensor:
        return functional.batch_norm(
            h, module.running_mean, module.running_var, None, None, False, 0.0, module.eps
        )


def channels_last(values: Tensor) -> Tensor:
    """(n, C, ...) as (n, positions, C)."""
    return values.reshape(*values.shape[:2], -1).transpose(1, 2)
