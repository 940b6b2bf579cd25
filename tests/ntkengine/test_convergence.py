"""Finite networks of growing width converge to the infinite-width rule as N^-1/2: each kind of layer once.

The short form takes a few seeds and two widths; `make verify` takes 200 seeds and widths 16 to 256.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ntkengine import Model, empirical_ntk, infinite_kernel
from tests.cases import inputs, model

Layers = Callable[[int], list[Any]]
RELU, ERF = {"kind": "relu"}, {"kind": "erf"}
READOUT = {"kind": "dense", "width": 1}
SLOPE = 0.1  # about -1/2


def dense(width: int, **fields: Any) -> dict[str, Any]:
    return {"kind": "dense", "width": width, "W_std": 1.2, "b_std": 0.3} | fields


def conv(width: int, *shape: int, kind: str = "conv", **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "width": width, "filter_shape": list(shape), "W_std": 1.2, "b_std": 0.2} | fields


def attention(width: int, **fields: Any) -> dict[str, Any]:
    base = {"kind": "attention", "width": width, "n_heads": width // 4, "attention_mechanism": "softmax"}
    return base | {"n_chan_key": width, "n_chan_val": 4, "linear_scaling": True} | fields


def hidden(width: int, act: dict[str, Any]) -> list[Any]:
    return [dense(width), act, dense(width), act, READOUT]


FLAT, LINE, IMAGE, CUBE = (3,), (5, 2), (4, 4, 2), (3, 3, 3, 2)

# name: shape of an input, and the layers at a width
CASES: dict[str, tuple[tuple[int, ...], Layers]] = {
    "dense, relu": (FLAT, lambda n: hidden(n, RELU)),
    "dense, gelu": (FLAT, lambda n: hidden(n, {"kind": "gelu"})),
    "dense, tanh": (FLAT, lambda n: hidden(n, {"kind": "tanh"})),
    "serial, repeat": (
        FLAT,
        lambda n: [
            {"kind": "repeat", "times": 2, "layer": {"kind": "serial", "layers": [dense(n), ERF]}},
            READOUT,
        ],
    ),
    "sum, identity": (
        FLAT,
        lambda n: [
            dense(n),
            {"kind": "parallel", "branches": [{"kind": "identity"}, branch(n)]},
            ERF,
            READOUT,
        ],
    ),
    "product": (
        FLAT,
        lambda n: [{"kind": "parallel", "merge": "product", "branches": [branch(n), branch(n)]}, READOUT],
    ),
    "concat": (
        FLAT,
        lambda n: [{"kind": "parallel", "merge": "concat", "branches": [branch(n), branch(3 * n)]}, READOUT],
    ),
    "layer_norm": (FLAT, lambda n: [dense(n), {"kind": "layer_norm"}, RELU, dense(n), RELU, READOUT]),
    "rms_norm": (FLAT, lambda n: [dense(n), RELU, {"kind": "rms_norm"}, dense(n), RELU, READOUT]),
    "conv 1d, avg_pool": (
        LINE,
        lambda n: [
            conv(n, 3, padding="CIRCULAR"),
            RELU,
            {"kind": "avg_pool", "window_shape": [2]},
            conv(n, 2),
            RELU,
            {"kind": "flatten"},
            READOUT,
        ],
    ),
    "conv 2d, global_avg_pool": (
        IMAGE,
        lambda n: [
            conv(n, 3, 3, padding="SAME"),
            RELU,
            conv(n, 2, 2, strides=[2, 1]),
            RELU,
            {"kind": "global_avg_pool"},
            READOUT,
        ],
    ),
    "conv 3d, dilation, global_sum_pool": (
        CUBE,
        lambda n: [
            conv(n, 2, 2, 2),
            ERF,
            conv(n, 2, 1, 1, dilation=[1, 1, 1]),
            ERF,
            {"kind": "global_sum_pool"},
            READOUT,
        ],
    ),
    "grouped conv": (
        LINE,
        lambda n: [conv(n, 2), RELU, conv(n, 2, groups=2, dilation=[2]), RELU, {"kind": "flatten"}, READOUT],
    ),
    "conv_local": (
        LINE,
        lambda n: [
            conv(n, 3, kind="conv_local"),
            RELU,
            conv(n, 2, kind="conv_local"),
            RELU,
            {"kind": "flatten"},
            READOUT,
        ],
    ),
    "conv_transpose, sum_pool": (
        LINE,
        lambda n: [
            conv(n, 3, kind="conv_transpose", strides=[2], padding="SAME"),
            RELU,
            {"kind": "sum_pool", "window_shape": [2]},
            dense(n),
            RELU,
            {"kind": "global_avg_pool"},
            READOUT,
        ],
    ),
    "attention": (LINE, lambda n: [dense(n), attention(n), RELU, {"kind": "global_avg_pool"}, READOUT]),
    "aggregate": (
        LINE,
        lambda n: [
            dense(n),
            {"kind": "aggregate", "pattern": (np.eye(5) / 2 + np.eye(5, k=1) / 2).tolist()},
            RELU,
            {"kind": "flatten"},
            READOUT,
        ],
    ),
}


def branch(width: int) -> dict[str, Any]:
    return {"kind": "serial", "layers": [dense(width), ERF, dense(width)]}


def distances(spec: Model, x: Tensor, limit: Tensor, seeds: range) -> Tensor:
    """`|Theta_N - Theta|` over `|Theta|`, for each seed."""
    drawn = (empirical_ntk(spec.network(tuple(x.shape[1:]), seed=seed), x) for seed in seeds)
    return torch.stack([(kernel - limit).norm() for kernel in drawn]) / limit.norm()


def slope(name: str, widths: list[int], seeds: int) -> float:
    """The exponent of the width in the root mean square distance over seeds."""
    shape, layers = CASES[name]
    x = inputs(2 * math.prod(shape)).reshape(-1)[: 2 * math.prod(shape)].reshape(2, *shape)
    limit = infinite_kernel(model(layers(widths[-1])), x).ntk
    spread = [distances(model(layers(n)), x, limit, range(seeds)).square().mean().sqrt() for n in widths]
    return float(np.polyfit(np.log(widths), np.log(spread), 1)[0])


@pytest.mark.parametrize("name", CASES)
def test_short_form(name: str) -> None:
    """Sixteen times as wide, about a quarter of the distance; a wrong rule leaves a constant."""
    assert -0.8 < slope(name, [16, 256], 12) < -0.25


@pytest.mark.verify
@pytest.mark.parametrize("name", CASES)
def test_long_form(name: str) -> None:
    assert abs(slope(name, [16, 32, 64, 128, 256], 200) + 0.5) <= SLOPE
