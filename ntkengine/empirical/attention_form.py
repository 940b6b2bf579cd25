"""torch's attention, opened while derivatives are recorded: its own function hides what its tensors read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ntkengine.blocks import Shares, Sums
from ntkengine.empirical.forms import Form, Recorder

if TYPE_CHECKING:
    from torch import Tensor


class AttentionForm(Form):
    """The joint projection of queries, keys and values of self-attention, `W h[p] + b`. The projection of
    what heads give is a module inside this one, with a form of its own."""

    tensors = ("in_proj_weight", "in_proj_bias")

    def fits(self, module: nn.MultiheadAttention) -> bool:
        extra = module.bias_k is not None or module.add_zero_attn
        chance = module.training and module.dropout > 0
        own = "forward" in vars(module)  # somebody else has opened it
        return module.kdim == module.vdim == module.embed_dim and not (extra or chance or own)

    def sums(self, module: nn.MultiheadAttention, h: Tensor, y: Tensor) -> Sums:
        return Sums(h.shape[1], h.shape[2], y.shape[2], scores=module.num_heads * h.shape[1] ** 2)

    def read(self, module: nn.MultiheadAttention, h: Tensor) -> Tensor:
        return h

    def squares(self, module: nn.MultiheadAttention, weights: Shares) -> tuple[float, float]:
        return weights.get("in_proj_weight", 0.0), weights.get("in_proj_bias", 0.0)

    def watched(self, module: nn.MultiheadAttention, record: Recorder) -> Callable[[], None]:
        """Until the call of what is returned, self-attention goes through `opened`; other calls are as they
        were, and not recorded, so that the trial sends the tensors to their Jacobian."""
        closed = module.forward

        def forward(
            query: Tensor,
            key: Tensor,
            value: Tensor,
            key_padding_mask: Tensor | None = None,
            need_weights: bool = True,
            attn_mask: Tensor | None = None,
            average_attn_weights: bool = True,
            is_causal: bool = False,
        ) -> Any:
            hint_alone = is_causal and attn_mask is None  # which is refused
            if query is key and key is value and query.ndim == 3 and not (need_weights or hint_alone):
                return opened(module, query, key_padding_mask, attn_mask, record), None
            masks = (key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
            return closed(query, key, value, *masks)

        module.forward = forward  # type: ignore[method-assign]

        def restore() -> None:
            del module.forward

        return restore


def opened(
    module: nn.MultiheadAttention,
    x: Tensor,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    record: Recorder,
) -> Tensor:
    """The output of self-attention, from modules and recorded steps alone."""
    h = x if module.batch_first else x.transpose(0, 1)  # (n, P, channels)
    projected = record(h, nn.functional.linear(h, module.in_proj_weight, module.in_proj_bias))
    parts = projected.reshape(*projected.shape[:2], 3, module.num_heads, -1).unbind(2)
    query, key, value = (part.transpose(1, 2) for part in parts)  # (n, heads, P, channels of a head)
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if attn_mask is not None:  # (P, P), or (n heads, P, P)
        added = numbers(attn_mask, h)
        scores = scores + (added if added.ndim == 2 else added.reshape(scores.shape))
    if key_padding_mask is not None:  # (n, P)
        scores = scores + numbers(key_padding_mask, h)[:, None, None]
    weights = torch.softmax(scores, dim=-1)
    y: Tensor = module.out_proj((weights @ value).transpose(1, 2).flatten(2))
    return y if module.batch_first else y.transpose(0, 1)


def numbers(mask: Tensor, like: Tensor) -> Tensor:
    """What a mask adds to scores: itself, or minus infinity where it is true."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)
