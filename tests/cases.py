"""The one table of networks that tests run over. A new layer or activation adds a row."""

from __future__ import annotations

from typing import Any

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
