"""How the tensors of a module enter its outputs: what structured derivatives need to know of its kind.

A form reads what the tensors multiply from the module's input, and the derivatives of its output in the same
layout, with positions on one axis. Modules are told apart by their exact type: a subclass may do anything.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn
from torch.nn import functional

from ntkengine.blocks import Contraction, Derivatives, Shares, Sums, from_pairs, separate_block, shared_block
from ntkengine.network import LayerModule

if TYPE_CHECKING:
    from torch import Tensor


class Form(ABC):
    """One kind of module."""

    tensors: ClassVar[tuple[str, ...]]  # the trained tensors of the module that it accounts for

    @abstractmethod
    def fits(self, module: Any) -> bool:
        """Whether this module's settings are covered."""

    @abstractmethod
    def sums(self, module: Any, h: Tensor, y: Tensor) -> Sums:
        """What the tensors do to an input h (n, ...), whose output is y."""

    @abstractmethod
    def read(self, module: Any, h: Tensor) -> Tensor:
        """What the tensors multiply, (n, positions, numbers)."""

    @abstractmethod
    def given(self, module: Any, g: Tensor) -> Tensor:
        """Output derivatives (n, k, *output) as (n, k, positions, width)."""

    @abstractmethod
    def block(
        self, module: Any, left: Derivatives, right: Derivatives, contraction: Contraction, weights: Shares
    ) -> Tensor:
        """The share of the module's tensors in the NTK, each times its weight."""


class PlacedLayer(Form):
    """A layer of a spec, which knows its own form."""

    tensors: ClassVar[tuple[str, ...]] = ("W", "b")

    def fits(self, module: LayerModule) -> bool:
        return module.site.layer.sums(module.site) is not None

    def sums(self, module: LayerModule, h: Tensor, y: Tensor) -> Sums:
        found = module.site.layer.sums(module.site)
        if found is None:
            raise ValueError("this layer has no sums")
        return found

    def read(self, module: LayerModule, h: Tensor) -> Tensor:
        return module.site.layer.read(module.site, h)

    def given(self, module: LayerModule, g: Tensor) -> Tensor:
        return g.reshape(*g.shape[:2], -1, g.shape[-1])

    def block(
        self,
        module: LayerModule,
        left: Derivatives,
        right: Derivatives,
        contraction: Contraction,
        weights: Shares,
    ) -> Tensor:
        site = module.site
        block = shared_block if self.sums(module, left.h, left.g).shared else separate_block
        return block(left, right, contraction, site.layer.squares(site, weights))


class Plain(Form):
    """Weights that are the same at all positions, with multiplier 1, and a bias."""

    tensors: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def block(
        self, module: Any, left: Derivatives, right: Derivatives, contraction: Contraction, weights: Shares
    ) -> Tensor:
        return shared_block(left, right, contraction, (weights.get("weight", 0.0), weights.get("bias", 0.0)))


class LinearForm(Plain):
    """`y[p] = W h[p] + b`."""

    def fits(self, module: nn.Linear) -> bool:
        return True

    def sums(self, module: nn.Linear, h: Tensor, y: Tensor) -> Sums:
        return Sums(math.prod(h.shape[1:-1]), h.shape[-1], y.shape[-1])

    def read(self, module: nn.Linear, h: Tensor) -> Tensor:
        return h.reshape(len(h), -1, h.shape[-1])

    def given(self, module: nn.Linear, g: Tensor) -> Tensor:
        return g.reshape(*g.shape[:2], -1, g.shape[-1])


class ConvForm(Plain):
    """Convolutions in 1, 2 and 3 dimensions, channels first; each position reads a patch."""

    def fits(self, module: Any) -> bool:
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)

    def sums(self, module: Any, h: Tensor, y: Tensor) -> Sums:
        taps = math.prod(module.kernel_size)
        return Sums(math.prod(y.shape[2:]), taps * module.in_channels, module.out_channels)

    def read(self, module: Any, h: Tensor) -> Tensor:
        axes = range(2, h.ndim)
        around = [side for p in reversed(module.padding) for side in (p, p)]
        windows = functional.pad(h, around)
        for axis, taps, stride, dilation in zip(
            axes, module.kernel_size, module.stride, module.dilation, strict=True
        ):
            windows = windows.unfold(axis, dilation * (taps - 1) + 1, stride)[..., ::dilation]
        places = range(2, 2 + len(axes))
        patches = windows.permute(0, *places, 1, *range(2 + len(axes), windows.ndim))
        return patches.reshape(len(h), math.prod(windows.shape[2 : 2 + len(axes)]), -1)

    def given(self, module: Any, g: Tensor) -> Tensor:
        return g.flatten(3).transpose(2, 3)


class EmbeddingForm(Form):
    """`y[p] = W[token[p]]`: positions share weights if they have the same token; padding has none."""

    tensors: ClassVar[tuple[str, ...]] = ("weight",)

    def fits(self, module: nn.Embedding) -> bool:
        return module.max_norm is None and not module.scale_grad_by_freq

    def sums(self, module: nn.Embedding, h: Tensor, y: Tensor) -> Sums:
        return Sums(math.prod(h.shape[1:]), 1, module.embedding_dim)

    def read(self, module: nn.Embedding, h: Tensor) -> Tensor:
        return h.reshape(len(h), -1, 1)

    def given(self, module: nn.Embedding, g: Tensor) -> Tensor:
        return g.reshape(*g.shape[:2], -1, g.shape[-1])

    def block(
        self, module: Any, left: Derivatives, right: Derivatives, contraction: Contraction, weights: Shares
    ) -> Tensor:
        first, second = left.h[:, None, :, None, 0], right.h[None, :, None, :, 0]
        same = first == second
        if module.padding_idx is not None:
            same &= first != module.padding_idx
        return from_pairs(left, right, contraction, same.to(left.g.dtype) * weights["weight"])


class ScaleForm(Form):
    """The scale and shift of a normalisation: `y[p, c] = w[c] h[p, c] + b[c]`, h the normalised input."""

    tensors: ClassVar[tuple[str, ...]] = ("weight", "bias")

    @abstractmethod
    def normalised(self, module: Any, h: Tensor) -> Tensor:
        """The output before scale and shift, in the layout of the input."""

    @abstractmethod
    def by_channel(self, module: Any, values: Tensor, leading: int) -> Tensor:
        """(*leading axes, ...) as (*leading axes, positions, channels)."""

    def sums(self, module: Any, h: Tensor, y: Tensor) -> Sums:
        positions, channels = self.by_channel(module, h, 1).shape[1:]
        return Sums(positions, 1, channels)

    def read(self, module: Any, h: Tensor) -> Tensor:
        return self.by_channel(module, self.normalised(module, h), 1)

    def given(self, module: Any, g: Tensor) -> Tensor:
        return self.by_channel(module, g, 2)

    def block(
        self, module: Any, left: Derivatives, right: Derivatives, contraction: Contraction, weights: Shares
    ) -> Tensor:
        total = contraction.product(*((each.g * each.h[:, None]).sum(2) for each in (left, right)))
        total *= weights.get("weight", 0.0)
        if "bias" in weights:
            total += weights["bias"] * contraction.product(left.g.sum(2), right.g.sum(2))
        return total


class LayerNormForm(ScaleForm):
    """Statistics over the last axes."""

    def fits(self, module: nn.LayerNorm) -> bool:
        return module.elementwise_affine

    def normalised(self, module: nn.LayerNorm, h: Tensor) -> Tensor:
        return functional.layer_norm(h, list(module.normalized_shape), None, None, module.eps)

    def by_channel(self, module: nn.LayerNorm, values: Tensor, leading: int) -> Tensor:
        return values.reshape(*values.shape[:leading], -1, math.prod(module.normalized_shape))


class GroupNormForm(ScaleForm):
    """Statistics over groups of channels, channels first."""

    def fits(self, module: nn.GroupNorm) -> bool:
        return module.affine

    def normalised(self, module: nn.GroupNorm, h: Tensor) -> Tensor:
        return functional.group_norm(h, module.num_groups, None, None, module.eps)

    def by_channel(self, module: Any, values: Tensor, leading: int) -> Tensor:
        return channels_last(values, leading)


class BatchNormForm(ScaleForm):
    """Running statistics, in eval mode, channels first."""

    def fits(self, module: Any) -> bool:
        return bool(module.affine and not module.training and module.running_mean is not None)

    def normalised(self, module: Any, h: Tensor) -> Tensor:
        return functional.batch_norm(
            h, module.running_mean, module.running_var, None, None, False, 0.0, module.eps
        )

    def by_channel(self, module: Any, values: Tensor, leading: int) -> Tensor:
        return channels_last(values, leading)


def channels_last(values: Tensor, leading: int) -> Tensor:
    """(*leading, C, ...) as (*leading, positions, C)."""
    flat = values.reshape(*values.shape[: leading + 1], -1)
    return flat.transpose(-1, -2)


FORMS: Mapping[type, Form] = {
    LayerModule: PlacedLayer(),
    nn.Linear: LinearForm(),
    nn.Conv1d: ConvForm(),
    nn.Conv2d: ConvForm(),
    nn.Conv3d: ConvForm(),
    nn.Embedding: EmbeddingForm(),
    nn.LayerNorm: LayerNormForm(),
    nn.GroupNorm: GroupNormForm(),
    nn.BatchNorm1d: BatchNormForm(),
    nn.BatchNorm2d: BatchNormForm(),
    nn.BatchNorm3d: BatchNormForm(),
}


# Kinds of libraries that are not imported for this.
FORMS_BY_NAME: Mapping[str, Form] = {"transformers.pytorch_utils.Conv1D": LinearForm()}  # weights (in, out)


def form_of(module: nn.Module) -> Form | None:
    """The form of a module whose trained tensors are all covered by it."""
    kind = type(module)
    form = FORMS.get(kind) or FORMS_BY_NAME.get(f"{kind.__module__}.{kind.__qualname__}")
    trained = {name for name, p in module.named_parameters(recurse=False) if p.requires_grad}
    if form is None or not trained or not trained <= set(form.tensors) or not form.fits(module):
        return None
    return form
