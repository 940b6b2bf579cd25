"""Attention: its rule against loops over positions, its finite map, and one against the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from ntkengine import Model, SpecError, UnsupportedError, infinite_kernel
from tests.cases import inputs, model
from tests.compare import assert_close

Array = NDArray[np.float64]

STDS = {"W_key_std": 1.3, "W_query_std": 1.2, "W_value_std": 1.1, "W_out_std": 0.9, "b_std": 0.3}
QK, OV = 1.3 * 1.2, 1.1 * 0.9
CHANNELS = 4
READOUT = {"kind": "dense", "width": 2}


def dense(width: int | None = None, **fields: Any) -> dict[str, Any]:
    return {"kind": "dense", "width": width, "W_std": 1.2, "b_std": 0.3} | fields


def attention(**fields: Any) -> dict[str, Any]:
    return {"kind": "attention"} | STDS | fields


def random(*shape: int, seed: int = 0) -> Tensor:
    return inputs(math.prod(shape), 1, seed=seed).reshape(shape)


FORMS: list[dict[str, Any]] = [
    *({"attention_mechanism": each} for each in ("softmax", "relu", "abs", "identity")),
    {"linear_scaling": False, "attention_mechanism": "identity"},
]
EMBEDDINGS: list[dict[str, Any]] = [
    {},
    {"pos_emb_type": "sum", "W_pos_emb_std": 0.7},
    {"pos_emb_type": "concat", "W_pos_emb_std": 0.7, "val_pos_emb": True},
]
VARIANTS = [
    pytest.param(
        {**form, **embedding, "causal": causal},
        id="-".join(map(str, (*form.values(), *embedding.values(), causal))),
    )
    for form, embedding, causal in product(FORMS, EMBEDDINGS, (False, True))
]


def weights_of(scores: list[float], mechanism: str) -> list[float]:
    """The weights of the positions that are seen, by their scores."""
    if mechanism == "softmax":
        return [math.exp(s) / sum(map(math.exp, scores)) for s in scores]
    functions: dict[str, Callable[[float], float]] = {
        "relu": lambda s: max(s, 0.0),
        "abs": abs,
        "identity": lambda s: s,
    }
    return [functions[mechanism](s) for s in scores]


def rule_by_loops(layer: dict[str, Any], K: Array, T: Array, own: tuple[Array, Array]) -> tuple[Array, Array]:
    """NNGP and NTK (P, P) of one pair of inputs from those before, and each input's own NNGP."""
    count = len(K)
    unit, shares = np.eye(count), {None: (1.0, 0.0), "sum": (1.0, 0.49), "concat": (0.5, 0.245)}
    x_share, e_share = shares[layer.get("pos_emb_type")]
    K_seen, T_seen = (x_share * each + e_share * unit for each in (K, T))
    K_val, T_val = (K_seen, T_seen) if layer.get("val_pos_emb") else (K, T)
    nngp, ntk = np.full((count, count), 0.09), np.full((count, count), 0.09)

    def seen(p: int) -> range:
        return range(p + 1) if layer["causal"] else range(count)

    def weights(which: int, p: int) -> list[float]:
        scores = [QK * (x_share * own[which][p, q] + e_share * unit[p, q]) for q in seen(p)]
        return weights_of(scores, layer["attention_mechanism"])

    for p, r in product(range(count), repeat=2):
        for q, s in product(seen(p), seen(r)):
            if layer.get("linear_scaling", True):
                weight = OV**2 * weights(0, p)[q] * weights(1, r)[s]
                nngp[p, r] += weight * K_val[q, s]
                ntk[p, r] += weight * (T_val[q, s] + 2 * K_val[q, s])
            else:
                factors = [
                    (K_seen[p, r], T_seen[p, r]),
                    (K_seen[q, s], T_seen[q, s]),
                    (K_val[q, s], T_val[q, s]),
                ]
                whole = (OV * QK) ** 2 * math.prod(k for k, _ in factors)
                nngp[p, r] += whole
                ntk[p, r] += 4 * whole
                for index, (_, t) in enumerate(factors):
                    others = math.prod(k for other, (k, _) in enumerate(factors) if other != index)
                    ntk[p, r] += (OV * QK) ** 2 * t * others
    return nngp, ntk


def flat(kernel: Tensor) -> Array:
    """(n1, n2, H, H, W, W) as (n1, n2, P, P)."""
    n1, n2, height, _, width, _ = kernel.shape
    return kernel.permute(0, 1, 2, 4, 3, 5).reshape(n1, n2, height * width, height * width).numpy()


@pytest.mark.parametrize("variant", VARIANTS)
def test_rule(variant: dict[str, Any]) -> None:
    layer = attention(**variant)
    front = [dense(), {"kind": "erf"}, dense(W_std=0.8)]
    x1, x2 = random(2, 3, 2, CHANNELS), random(3, 3, 2, CHANNELS, seed=1)
    for other in (None, x2):
        before, after = (infinite_kernel(model(each), x1, other) for each in (front, [*front, layer]))
        K, T, K_after, T_after = (flat(k) for k in (before.nngp, before.ntk, after.nngp, after.ntk))
        rows, columns = (
            flat(infinite_kernel(model(front), x).nngp) for x in (x1, x1 if other is None else x2)
        )
        for i, j in product(range(K.shape[0]), range(K.shape[1])):
            nngp, ntk = rule_by_loops(layer, K[i, j], T[i, j], (rows[i, i], columns[j, j]))
            assert_close(K_after[i, j], nngp)
            assert_close(T_after[i, j], ntk)


def map_by_loops(layer: dict[str, Any], tensors: dict[str, Array], x: Array) -> Array:
    """The outputs (P, width) of one input (P, C)."""
    key = query = tensors["W_query"]
    power = 1.0
    if not layer.get("linear_scaling", True):
        key, power = tensors["W_key"], 0.5
    embedding = 0.7 * tensors["pos_emb"] if "pos_emb" in tensors else 0.0
    joined = {None: x, "sum": x + embedding, "concat": np.hstack((x, np.broadcast_to(embedding, x.shape)))}
    seen = joined[layer.get("pos_emb_type")]
    content = seen if layer.get("val_pos_emb") else x
    heads, channels, d = query.shape
    rows = []
    for p in range(len(x)):
        parts = []
        for h in range(heads):
            positions = range(p + 1) if layer["causal"] else range(len(x))
            scores = [
                QK * (seen[p] @ query[h]) @ (seen[q] @ key[h]) / (channels * d**power) for q in positions
            ]
            weights = weights_of(scores, layer["attention_mechanism"])
            parts += list(
                sum(w * (content[q] @ tensors["W_value"][h]) for w, q in zip(weights, positions, strict=True))
            )
        scale = OV / math.sqrt(len(parts) * content.shape[1])
        rows.append(scale * np.array(parts) @ tensors["W_out"] + 0.3 * tensors["b"])
    return np.array(rows)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tied", [True, False])
def test_finite_map(variant: dict[str, Any], tied: bool) -> None:
    layer = attention(**variant, width=3, n_heads=2, n_chan_key=5, n_chan_val=2) | {"linear_scaling": tied}
    network = model([layer]).network((2, 3, CHANNELS), seed=1)
    tensors = {name.removeprefix("layers.0."): p.numpy(force=True) for name, p in network.named_parameters()}
    assert ("W_key" in tensors) is not tied
    x = random(2, 2, 3, CHANNELS)
    with torch.no_grad():
        y = network(x)
    assert y.shape == (2, 2, 3, 3)
    for row, out in zip(x, y, strict=True):
        want = map_by_loops(layer, tensors, row.flatten(0, 1).numpy())
        assert_close(out.flatten(0, 1), want)


def drawn_ntk(spec: Model, x: Tensor, seed: int) -> Tensor:
    """The empirical NTK (n, n, P, P), the mean over outputs, of inputs (n, P, C)."""
    network = spec.network(tuple(x.shape[1:]), seed=seed)
    params = {name: p.detach() for name, p in network.named_parameters()}

    def outputs(params: dict[str, Tensor], row: Tensor) -> Tensor:
        result: Tensor = functional_call(network, params, (row[None],))
        return result[0]

    jacobians = vmap(jacrev(outputs), in_dims=(None, 0))(params, x)
    flat = torch.cat([each.flatten(3) for each in jacobians.values()], -1)
    return torch.einsum("ipkw,jqkw->ijpq", flat, flat) / flat.shape[2]


SOFTMAX, IDENTITY = {"attention_mechanism": "softmax"}, {"attention_mechanism": "identity"}
PLAIN = IDENTITY | {"linear_scaling": False}

# name: the layer, what stands before it, channels of the inputs (many, where they meet embeddings), of keys
WIDE: dict[str, tuple[dict[str, Any], list[Any], int, int]] = {
    "softmax": (SOFTMAX, [dense(48)], 4, 48),
    "identity, causal": (IDENTITY | {"causal": True}, [], 8, 96),
    "square root": (PLAIN, [dense(96)], 4, 32),
    "concat": (SOFTMAX | {"pos_emb_type": "concat", "val_pos_emb": True, "causal": True}, [], 48, 48),
    "square root, sum": (PLAIN | {"pos_emb_type": "sum"}, [], 48, 32),
}


@pytest.mark.parametrize("name", WIDE)
def test_wide_networks_approach_the_rule(name: str) -> None:
    """The mean over seeds, within 4 standard errors and the bias of order 1/N; heads leave no bias."""
    variant, front, channels, keys = WIDE[name]
    seeds = 64
    counts = {"n_heads": 8, "n_chan_key": keys, "n_chan_val": 1, "width": 4}
    stds = {"W_key_std": 1.0, "W_query_std": 0.8, "b_std": None}
    spec = model([*front, attention(**(counts | variant | stds))])
    x = random(2, 3, channels)
    limit = infinite_kernel(spec, x).ntk.reshape(2, 2, 3, 3)
    drawn = torch.stack([drawn_ntk(spec, x, seed) for seed in range(seeds)])
    error = (drawn.mean(0) - limit).abs()
    assert bool((error <= 4.0 * drawn.std(0) / seeds**0.5 + 4.0 / keys * limit.abs().max()).all())


@pytest.mark.parametrize("mechanism", ["softmax", "relu", "abs", "identity"])
def test_a_causal_output_does_not_depend_on_later_positions(mechanism: str) -> None:
    counts = {"width": 3, "n_heads": 2, "n_chan_key": 4, "n_chan_val": 2}
    x = random(1, 5, CHANNELS)
    later = x.clone()
    later[:, 3:] += 1.0
    same = []
    for causal in (True, False):
        layer = attention(**counts, attention_mechanism=mechanism, causal=causal)
        network = model([layer]).network((5, CHANNELS), seed=2)
        limit = [infinite_kernel(model([layer]), each).nngp[0, 0, :3, :3] for each in (x, later)]
        with torch.no_grad():
            outputs = [network(each)[:, :3] for each in (x, later)]
        same.append((torch.equal(outputs[0], outputs[1]), torch.equal(limit[0], limit[1])))
    assert same == [(True, True), (False, False)]


def test_outputs_are_gaussian_and_inputs_may_have_any_law() -> None:
    """An activation may follow; kernels do not depend on widths and counts, given or left out."""
    uniform = {"kind": "uniform", "half_width": math.sqrt(3.0)}
    x = random(3, 4, CHANNELS)
    given = attention(width=5, n_heads=2, n_chan_key=3, n_chan_val=2)
    tail = [{"kind": "relu"}, READOUT]
    free = infinite_kernel(model([dense(W_law=uniform), attention(), *tail]), x)
    assert_close(infinite_kernel(model([dense(7), given, *tail]), x).ntk, free.ntk)


def test_tensors_of_more_heads_hold_those_of_fewer() -> None:
    small, large = (
        model([attention(width=3 * n, n_heads=2 * n, n_chan_key=4 * n, n_chan_val=2, linear_scaling=False)])
        .network((5, CHANNELS), seed=3)
        .state_dict()
        for n in (1, 2)
    )
    for name in ("W_query", "W_key", "W_value", "W_out", "b"):
        want = small[f"layers.0.{name}"]
        assert torch.equal(large[f"layers.0.{name}"][tuple(slice(size) for size in want.shape)], want)
    assert not torch.equal(small["layers.0.W_query"], small["layers.0.W_key"])
    assert not torch.equal(*small["layers.0.W_query"])


def test_refusals() -> None:
    x = random(2, 3, CHANNELS)
    for mechanism in ("softmax", "relu", "abs"):
        layer = attention(linear_scaling=False, attention_mechanism=mechanism)
        with pytest.raises(UnsupportedError, match=rf"layers\.1: {mechanism}") as caught:
            infinite_kernel(model([dense(), layer, READOUT]), x)
        assert caught.value.pointer == "/layers/1"
        assert "linear_scaling" in (caught.value.hint or "")
    with pytest.raises(SpecError, match=r"layers\.0: attention needs inputs with positions"):
        infinite_kernel(model([attention()]), x[:, 0])
    with pytest.raises(SpecError, match=r"layers\.0: .*ntk parameterization"):
        model([attention()], parameterization={"kind": "standard"}).place((3, CHANNELS))
    model([attention(parameterization={"kind": "ntk"})], parameterization={"kind": "standard"}).place(
        (3, CHANNELS)
    )
    with pytest.raises(SpecError, match="n_heads") as incomplete:
        model([attention(width=3)]).network((3, CHANNELS))
    assert incomplete.value.pointer == "/layers/0/n_heads"
