"""The one table of networks that tests run over. A new layer or activation adds a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ntkengine import Model
from ntkengine.spec import from_jsonable

SHALLOW = [
    {"kind": "dense", "width": 9, "W_std": 1.3, "b_std": 0.3},
    None,
    {"kind": "dense", "width": 3, "b_std": 0.2},
]
DEEP = [*SHALLOW[:2], {"kind": "dense", "width": 7, "W_std": 1.1, "b_std": 0.4}, *SHALLOW[1:]]

ACTIVATIONS: list[dict[str, Any]] = [
    {"kind": "linear"},
    {"kind": "relu"},
    {"kind": "leaky_relu", "alpha": 0.2},
    {"kind": "quadratic"},
    {"kind": "monomial", "degree": 3},
    {"kind": "erf"},
    {"kind": "gelu"},
    {"kind": "sin", "a": 1.2, "b": 0.8, "c": 0.3},
    {"kind": "abs"},
    {"kind": "ab_relu", "a": -0.3, "b": 1.4},
    {"kind": "cos", "a": 1.1, "b": 0.7, "c": 0.4},
    {"kind": "rbf", "gamma": 0.6},
    {"kind": "exp", "a": 0.8, "b": 0.07},
    {"kind": "gaussian", "a": 1.1, "b": -0.7},
    {"kind": "gabor"},
    {"kind": "sign"},
    {"kind": "rectified_monomial", "degree": 2},
    {"kind": "hermite", "degree": 2},
    {"kind": "polynomial", "coef": [0.2, 0.5, -0.3, 0.1]},
    {"kind": "sigmoid_like"},
]
NUMERIC: list[dict[str, Any]] = [
    {"kind": "tanh"},
    {"kind": "sigmoid"},
    {"kind": "softplus"},
    {"kind": "silu"},
    {"kind": "mish"},
    {"kind": "elu", "alpha": 0.7},
    {"kind": "selu"},
]
FINITE_ONLY: list[dict[str, Any]] = []
INFINITE_ONLY: list[dict[str, Any]] = [{"kind": "exp_normalized", "gamma": 0.8, "shift": -0.9}]

PARAMETERIZATIONS: list[dict[str, Any]] = [
    {"kind": "ntk"},
    {"kind": "standard"},
    {"kind": "standard", "base_width": 3},
    {
        "kind": "abc",
        "input": {"a": 0.5},
        "hidden": {"a": 0.25, "b": 0.25, "c": 0.5},
        "readout": {"b": 0.5, "c": -1},
    },
]

UNIFORM = {"kind": "uniform", "half_width": 1.0}
HALF = {"kind": "uniform", "half_width": 0.5}


def with_activation(layers: list[Any], activation: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers with that activation where the list has None."""
    return [activation if layer is None else layer for layer in layers]


def model(layers: list[Any], **fields: Any) -> Model:
    """The model of those layers."""
    result: Model = from_jsonable(Model, {"layers": layers, **fields})
    return result


DENSE = {"kind": "dense", "width": 2}


def run_request(**changes: Any) -> dict[str, Any]:
    """A small run as JSON; keys at its top may be replaced."""
    base = {
        "model": {"layers": [DENSE]},
        "data": {"x": [[1.0], [2.0]], "y": [[1.0, 0.0], [0.0, 1.0]]},
        "training": {"kind": "gradient_descent", "learning_rate": 0.1, "steps": 10},
    }
    return base | changes


def quadratic(width: int | None = None, **hidden: Any) -> Model:
    """The notes' network; fields of its hidden layer may be replaced."""
    first = {"kind": "dense", "W_law": UNIFORM, "b_std": 1.0, "b_law": HALF, "width": width} | hidden
    return model([first, {"kind": "quadratic"}, {"kind": "dense", "width": 1, "W_law": first["W_law"]}])


def named(kind: dict[str, Any]) -> str:
    """A short id of a spec in a table."""
    return "-".join(str(value) for value in kind.values() if not isinstance(value, dict))


def finite_cases() -> list[Any]:
    """(model, input dimension) of finite networks over activations, parameterizations and starts."""
    table = {
        f"{named(act)}-ntk": model(with_activation(DEEP, act)) for act in ACTIVATIONS + NUMERIC + FINITE_ONLY
    }
    table |= {
        f"erf-{named(p)}": model(with_activation(DEEP, ACTIVATIONS[5]), parameterization=p)
        for p in PARAMETERIZATIONS[1:]
    }
    table |= {
        f"gelu-{start}": model(
            with_activation(DEEP, ACTIVATIONS[6]), initial_function=start, output_scale=2.5
        )
        for start in ("raw", "centred", "doubled")
    }
    for placement in ("scaled", "inside_sum"):
        layers = with_activation(SHALLOW, ACTIVATIONS[1])
        layers[2] = layers[2] | {"b_placement": placement}
        table[f"relu-{placement}"] = model(layers)
    table["mean_field"] = model(
        with_activation(SHALLOW, ACTIVATIONS[5]), parameterization={"kind": "mean_field", "lr_scale": "width"}
    )
    table["readout_activation"] = model([*with_activation(SHALLOW, ACTIVATIONS[5]), {"kind": "tanh"}])
    table["serial"] = model(
        [
            {"kind": "serial", "layers": with_activation(SHALLOW, ACTIVATIONS[5])},
            {"kind": "relu"},
            {"kind": "dense", "width": 2},
        ]
    )
    table["linear_model"] = model([{"kind": "dense", "width": 2, "b_std": 0.5}])
    return [pytest.param(each, id=name) for name, each in table.items()]


def inputs(n: int, d: int = 4, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal inputs (n, d)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64).to(dtype)


Layers = Callable[[int], list[Any]]
RELU, ERF = {"kind": "relu"}, {"kind": "erf"}
READOUT = {"kind": "dense", "width": 1}


def dense(width: int, **fields: Any) -> dict[str, Any]:
    return {"kind": "dense", "width": width, "W_std": 1.2, "b_std": 0.3} | fields


def conv(width: int, *shape: int, kind: str = "conv", **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "width": width, "filter_shape": list(shape), "W_std": 1.2, "b_std": 0.2} | fields


def attention(width: int, **fields: Any) -> dict[str, Any]:
    base = {"kind": "attention", "width": width, "n_heads": width // 4, "attention_mechanism": "softmax"}
    return base | {"n_chan_key": width, "n_chan_val": 4, "linear_scaling": True} | fields


def hidden(width: int, act: dict[str, Any]) -> list[Any]:
    return [dense(width), act, dense(width), act, READOUT]


def branch(width: int) -> dict[str, Any]:
    return {"kind": "serial", "layers": [dense(width), ERF, dense(width)]}


FLAT, LINE, IMAGE, CUBE = (3,), (5, 2), (4, 4, 2), (3, 3, 3, 2)

# a network with every kind of layer that has an infinite-width rule: the shape of an input, layers at a width
LAYER_KINDS: dict[str, tuple[tuple[int, ...], Layers]] = {
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
    "mask": (
        LINE,
        lambda n: [
            {"kind": "mask", "constant": 0.0},
            conv(n, 3, padding="SAME"),
            RELU,
            {"kind": "global_avg_pool"},
            READOUT,
        ],
    ),
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
