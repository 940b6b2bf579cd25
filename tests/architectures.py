"""Modules of many kinds, small: what an empirical kernel has to be right on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from tests import cases

Case = tuple[Callable[[], nn.Module], Callable[[int], Any]]  # a module, and n inputs


def rows(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randn((n, *shape), dtype=torch.float64)


def tokens(length: int, vocabulary: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randint(vocabulary, (n, length))


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.inner(x)
        return result


class Twice(nn.Module):
    """One layer, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(torch.tanh(self.layer(torch.tanh(self.layer(x)))))
        return result


class Tied(nn.Module):
    """A language model's head that is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mix = nn.Embedding(7, 5), nn.Linear(5, 5)
        self.head = nn.Linear(5, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.tanh(self.mix(self.embedding(x))).mean(1))
        return result


class Functional(nn.Module):
    """A layer whose weight is also used outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(torch.tanh(self.layer(x)) @ self.layer.weight)
        return result


class Sums(nn.Module):
    """Inputs by name, and a tensor of the module's own."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.scale * torch.tanh(self.left(left) + self.right(right))


class Attention(nn.Module):
    def __init__(self, built_in: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.built_in = nn.MultiheadAttention(8, 2, batch_first=True) if built_in else None
        self.projections = nn.ModuleList(nn.Linear(8, 8) for _ in range(0 if built_in else 3))
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        if self.built_in is not None:
            attended = self.built_in(h, h, h, need_weights=False)[0]
        else:
            query, key, value = (project(h) for project in self.projections)
            attended = (query @ key.mT / 8**0.5).softmax(-1) @ value
        result: Tensor = self.out((h + attended).mean(1))
        return result


class Transposed(nn.Module):
    """Its layer has the rows on the second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(torch.tanh(self.inner(x.transpose(0, 1))).mean(0))
        return result


class Recurrent(nn.Module):
    def __init__(self, cell: Callable[..., nn.Module], width: int = 4) -> None:
        super().__init__()
        self.cell, self.out = cell(3, 4, batch_first=True), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.cell(x)[0][:, -1])
        return result


class Stepped(nn.Module):
    """A cell, called once a step."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.out = cell, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        result: Tensor = self.out(state[0] if isinstance(state, tuple) else state)
        return result


class Unrolled(nn.Module):
    """A recurrence of plain layers, called once a step."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.onward, self.out = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 4)
        for step in range(x.shape[1]):
            state = torch.tanh(self.inward(x[:, step]) + self.onward(state))
        result: Tensor = self.out(state)
        return result


class Logits(nn.Module):
    """A model of transformers, whose answer is an object."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor | None = None, **named: Tensor) -> Tensor:  # torch exports no `*x`
        result: Tensor = (self.model(**named) if x is None else self.model(x, **named)).logits
        return result


def bert() -> nn.Module:
    config = transformers.BertConfig(vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                                     intermediate_size=12, max_position_embeddings=8)  # fmt: skip
    return Logits(transformers.BertForSequenceClassification(config)).eval()


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(vocab_size=7, n_embd=8, n_layer=2, n_head=2, n_positions=8)
    return Logits(transformers.GPT2LMHeadModel(config)).eval()


def vit() -> nn.Module:
    config = transformers.ViTConfig(image_size=4, patch_size=2, num_channels=1, hidden_size=8,
                                    num_hidden_layers=1, num_attention_heads=2,
                                    intermediate_size=12)  # fmt: skip
    return Logits(transformers.ViTForImageClassification(config)).eval()


def masked_tokens(n: int) -> dict[str, Tensor]:
    """Of different lengths, by name."""
    mask = torch.arange(4) < torch.arange(2, 2 + n)[:, None]
    return {"input_ids": tokens(4, 11)(n), "attention_mask": mask.long()}


class Looking(torch.autograd.Function):
    """The identity, whose backward pass looks at a number, which no batch of passes has."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * (1.0 if float(grads[0].detach().norm()) >= 0 else 0.0)


class LooksBack(nn.Module):
    """Backward passes that go one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = Looking.apply(x)  # type: ignore[no-untyped-call]
        return result


class Idle(nn.Module):
    """A layer that is called for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.idle, self.layer = nn.Linear(4, 5), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.idle(x)
        return torch.tanh(self.layer(x))


class Masked(nn.Module):
    """An encoder whose positions see those before them alone, by a mask of numbers or of truth values, of
    inputs that may be padded."""

    def __init__(self, *, numbers: bool = False, heads: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.numbers, self.heads = numbers, heads

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        if self.numbers:
            mask = torch.zeros(mask.shape, dtype=x.dtype).masked_fill(mask, -torch.inf)
        if self.heads:
            mask = mask.expand(2 * len(x), -1, -1)
        result: Tensor = self.encoder(x, mask=mask, src_key_padding_mask=padding)
        return result[:, 0] + result[:, 1]


def padded(n: int) -> dict[str, Tensor]:
    """Of different lengths."""
    return {"x": rows(5, 4)(n), "padding": torch.arange(5) >= torch.arange(2, 2 + n)[:, None]}


class OfSpec(nn.Module):
    """A network of a spec with attention, inside of a module, which may use a tensor of its own accord."""

    def __init__(self, *, outside: bool = False, **fields: Any) -> None:
        super().__init__()
        layers = [cases.dense(4), cases.attention(4, n_heads=2, b_std=0.4, **fields), {"kind": "tanh"}]
        self.network = cases.model(layers).network((5, 3), seed=1)
        self.out, self.outside = nn.Linear(4, 2), outside

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.network(x).mean(1))
        attention: Any = self.network.layers[1]
        return result + attention.W_value.sum() if self.outside else result


chain = nn.Sequential


def frozen_first(module: nn.Sequential) -> nn.Module:
    module[0].requires_grad_(False)
    return module


def in_eval_mode(module: nn.Module, *shape: int) -> nn.Module:
    """With running statistics of some batch."""
    with torch.no_grad():
        module.double()(torch.randn(16, *shape, dtype=torch.float64))
    return module.eval()


def mlp(*activations: nn.Module) -> nn.Sequential:
    layers = [nn.Linear(4, 6), activations[0], nn.Linear(6, 5), activations[-1], nn.Linear(5, 3)]
    return nn.Sequential(*layers)


def conv(*layers: nn.Module, out: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(out, 2))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    stack = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(3, 8), stack, nn.Flatten(), nn.Linear(40, 2))


# name: module and inputs; modules are put into float64 and, but for normalisation, are in training mode
ARCHITECTURES: dict[str, Case] = {
    "mlp tanh": (lambda: mlp(nn.Tanh()), rows(4)),
    "mlp relu in place": (lambda: mlp(nn.ReLU(inplace=True)), rows(4)),
    "mlp silu, gelu": (lambda: mlp(nn.SiLU(), nn.GELU()), rows(4)),
    "backward pass of its own": (lambda: mlp(nn.Tanh(), LooksBack()), rows(4)),
    "called for nothing": (Idle, rows(4)),
    "no bias": (
        lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 2, bias=False)),
        rows(4),
    ),
    "linear on positions": (lambda: conv(nn.Linear(3, 4), nn.Tanh(), out=20), rows(5, 3)),
    "frozen layer": (lambda: frozen_first(mlp(nn.Tanh())), rows(4)),
    "called twice": (Twice, rows(4)),
    "tied embedding": (Tied, tokens(4, 7)),
    "weight used outside": (Functional, rows(4)),
    "inputs by name": (Sums, lambda n: {"left": rows(4)(n), "right": rows(2)(n)}),
    "inputs in a tuple": (Sums, lambda n: (rows(4)(n), rows(2)(n))),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(7, 4), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)),
        tokens(5, 7),
    ),
    "embedding with padding": (lambda: conv(nn.Embedding(7, 4, padding_idx=0), out=20), tokens(5, 7)),
    "conv 1d": (lambda: conv(nn.Conv1d(2, 4, 3, padding=1), nn.Tanh(), out=24), rows(2, 6)),
    "conv 2d": (lambda: conv(nn.Conv2d(2, 3, (3, 2), stride=(1, 2)), nn.Tanh(), out=27), rows(2, 5, 6)),
    "conv 2d dilated": (
        lambda: conv(nn.Conv2d(2, 3, 2, dilation=2, padding=1), nn.ReLU(), out=75),
        rows(2, 5, 5),
    ),
    "conv 3d": (lambda: conv(nn.Conv3d(1, 2, 2), nn.Tanh(), out=16), rows(1, 3, 3, 3)),
    "conv without bias": (lambda: conv(nn.Conv2d(2, 3, 2, bias=False), nn.Tanh(), out=27), rows(2, 4, 4)),
    "depthwise": (lambda: conv(nn.Conv2d(2, 4, 2, groups=2), nn.Tanh(), out=36), rows(2, 4, 4)),
    "circular": (
        lambda: conv(nn.Conv1d(2, 4, 3, padding=1, padding_mode="circular"), nn.Tanh(), out=24),
        rows(2, 6),
    ),
    "padding by name": (lambda: conv(nn.Conv1d(2, 4, 3, padding="same"), nn.Tanh(), out=24), rows(2, 6)),
    "transposed": (lambda: conv(nn.ConvTranspose2d(2, 3, 2, stride=2), nn.Tanh(), out=108), rows(2, 3, 3)),
    "pooling": (lambda: conv(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.MaxPool2d(2), out=16), rows(2, 5, 5)),
    "layer norm": (
        lambda: chain(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2)),
        rows(4),
    ),
    "layer norm over axes": (lambda: conv(nn.Conv1d(2, 3, 2), nn.LayerNorm([3, 4]), out=12), rows(2, 5)),
    "group norm": (lambda: conv(nn.Conv2d(2, 4, 2), nn.GroupNorm(2, 4), nn.Tanh(), out=36), rows(2, 4, 4)),
    "batch norm": (
        lambda: in_eval_mode(conv(nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4), nn.Tanh(), out=36), 2, 4, 4),
        rows(2, 4, 4),
    ),
    "batch norm of features": (
        lambda: in_eval_mode(
            nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2)), 4
        ),
        rows(4),
    ),
    "residual": (lambda: nn.Sequential(Residual(mlp_of(4)), Residual(mlp_of(4)), nn.Linear(4, 2)), rows(4)),
    "attention": (lambda: Attention(built_in=False), rows(5, 3)),
    "torch's attention": (lambda: Attention(built_in=True), rows(5, 3)),
    "torch's encoder": (encoder, rows(5, 3)),
    "causal encoder": (Masked, rows(5, 4)),
    "causal encoder, mask of numbers": (lambda: Masked(numbers=True), rows(5, 4)),
    "causal encoder, mask by head": (lambda: Masked(heads=True), rows(5, 4)),
    "causal encoder, padded": (Masked, padded),
    "attention of a spec": (lambda: OfSpec(linear_scaling=False, causal=True), rows(5, 3)),
    "attention of a spec, embeddings": (lambda: OfSpec(pos_emb_type="concat"), rows(5, 3)),
    "attention of a spec, used outside": (lambda: OfSpec(outside=True), rows(5, 3)),
    "gru": (lambda: Recurrent(nn.GRU), rows(4, 3)),
    "lstm": (lambda: Recurrent(nn.LSTM), rows(4, 3)),
    "rnn, two layers, both ways": (
        lambda: Recurrent(lambda *a, **k: nn.RNN(*a, num_layers=2, bidirectional=True, **k), 8),
        rows(4, 3),
    ),
    "rnn cell": (lambda: Stepped(nn.RNNCell(3, 4)), rows(3, 3)),
    "gru cell": (lambda: Stepped(nn.GRUCell(3, 4)), rows(3, 3)),
    "lstm cell": (lambda: Stepped(nn.LSTMCell(3, 4)), rows(3, 3)),
    "unrolled": (Unrolled, rows(4, 3)),
    "rows on the second axis": (Transposed, rows(5, 3)),
    "as many steps as rows": (Transposed, rows(2, 3)),
    "bert": (bert, tokens(4, 11)),
    "bert, masked, by name": (bert, masked_tokens),
    "vit": (vit, rows(1, 4, 4)),
    "gpt2": (gpt2, tokens(3, 7)),
    "spatial outputs": (lambda: nn.Sequential(nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Conv1d(3, 2, 2)), rows(2, 4)),
}

# layers whose tensors have no structured form there, and why a Jacobian is right for them
FALLBACKS: dict[str, set[str]] = {
    "tied embedding": {"embedding"},  # the head's weight, too, goes by the embedding's name
    "weight used outside": {"layer"},
    "inputs by name": {""},
    "inputs in a tuple": {""},
    "circular": {"0"},
    "padding by name": {"0"},
    "transposed": {"0"},
    "rows on the second axis": {"inner"},
    "as many steps as rows": {"inner"},
    "bert": {"model.bert.embeddings.position_embeddings"},  # which it calls with one row for all
    "bert, masked, by name": {"model.bert.embeddings.position_embeddings"},
    "attention of a spec, used outside": {"network.layers.1"},  # one of its tensors
    "vit": {"model.vit.embeddings"},  # tensors of its own, added to all rows
    "gpt2": {"model.transformer.wte", "model.transformer.wpe"},  # tied; one row for all
    "gru": {"cell"},
    "lstm": {"cell"},
    "rnn, two layers, both ways": {"cell"},
    "rnn cell": {"cell"},
    "gru cell": {"cell"},
    "lstm cell": {"cell"},
}


def mlp_of(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 6), nn.Tanh(), nn.Linear(6, width))


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES[name][0]().double()


def inputs_of(name: str, n: int, seed: int = 1) -> Any:
    torch.manual_seed(seed)
    return ARCHITECTURES[name][1](n)


def flattened(gradients: Sequence[Tensor | None], parameters: list[nn.Parameter]) -> Tensor:
    """One row, with zeros for tensors that were not used."""
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def reference_jacobian(module: nn.Module, x: Any) -> Tensor:
    """`df_a(x_i) / dp` (n, k, p) over all tensors that require gradients, one gradient at a time."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    parts = list(x.values()) if isinstance(x, dict) else list(x) if isinstance(x, tuple) else [x]
    result = []
    for i in range(len(parts[0])):
        one = [part[i : i + 1] for part in parts]
        y = (module(**dict(zip(x, one, strict=True))) if isinstance(x, dict) else module(*one)).flatten()
        gradients = [torch.autograd.grad(v, parameters, retain_graph=True, allow_unused=True) for v in y]
        result.append(torch.stack([flattened(each, parameters) for each in gradients]))
    return torch.stack(result)


__all__ = ["ARCHITECTURES", "FALLBACKS", "built", "inputs_of", "reference_jacobian"]
