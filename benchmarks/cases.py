"""What is measured beside the peer: networks, as specs of ours, and inputs. Both environments import this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Layer = dict[str, Any]
INPUTS = 784


@dataclass(frozen=True)
class Case:
    """The NTK of a network on n inputs with themselves, in float32."""

    name: str
    layers: tuple[Layer, ...]
    shape: tuple[int, ...]  # (n, ...) of the inputs
    relu_layers: int = 0  # of the floor; 0: it is not measured
    quick: bool = True  # part of the short form

    @property
    def model(self) -> dict[str, Any]:
        """The spec, which has the ntk parameterization by default."""
        return {"layers": list(self.layers)}

    def inputs(self) -> Any:
        """Standard normal numbers: the same in every version of numpy, for RandomState is frozen."""
        numbers = np.random.RandomState(0)
        x = np.empty(self.shape, dtype=np.float32)
        for row in x:  # one by one, so that float64 is never held for all
            row[:] = numbers.standard_normal(self.shape[1:])
        return x


def dense(width: int, W_std: float, b_std: float | None = 0.1) -> Layer:
    """A dense layer."""
    return {"kind": "dense", "width": width, "W_std": W_std, "b_std": b_std}


def fully_connected(activation: str, depth: int, W_std: float) -> tuple[Layer, ...]:
    """That many hidden layers."""
    return (*(dense(64, W_std), {"kind": activation}) * depth, dense(1, W_std))


def convolutions(readout: str) -> tuple[Layer, ...]:
    """Three 3 x 3 convolutions with ReLU."""
    conv: Layer = {
        "kind": "conv",
        "width": 16,
        "filter_shape": [3, 3],
        "padding": "SAME",
        "W_std": 2**0.5,
        "b_std": 0.1,
    }
    return (*(conv, {"kind": "relu"}) * 3, {"kind": readout}, dense(1, 1.0, None))


def attention() -> tuple[Layer, ...]:
    """One layer of linearly scaled attention."""
    layer: Layer = {
        "kind": "attention",
        "width": 64,
        "n_heads": 4,
        "n_chan_key": 16,
        "n_chan_val": 16,
        "linear_scaling": True,
        "attention_mechanism": "softmax",
    }
    return (layer, {"kind": "relu"}, {"kind": "global_avg_pool"}, dense(1, 1.0, None))


RELU = fully_connected("relu", 3, 2**0.5)
CASES = (
    Case("dense ReLU depth 3, n = 1000", RELU, (1000, INPUTS), relu_layers=3),
    Case("dense ReLU depth 3, n = 2000", RELU, (2000, INPUTS), relu_layers=3),
    Case("dense ReLU depth 3, n = 4000", RELU, (4000, INPUTS), relu_layers=3, quick=False),
    Case("dense erf depth 10, n = 2000", fully_connected("erf", 10, 1.5), (2000, INPUTS)),
    Case("dense gelu depth 3, n = 2000", fully_connected("gelu", 3, 1.5), (2000, INPUTS)),
    Case(
        "conv 3x3 ReLU depth 3, average, n = 32",
        convolutions("global_avg_pool"),
        (32, 16, 16, 3),
        quick=False,
    ),
    Case("conv 3x3 ReLU depth 3, flatten, n = 100", convolutions("flatten"), (100, 16, 16, 3)),
    Case("attention ReLU average, length 16, n = 32", attention(), (32, 16, 64)),
)
STORED = Case("dense ReLU depth 3, n = 20000, on disk", RELU, (20_000, INPUTS), quick=False)
BY_NAME = {case.name: case for case in (*CASES, STORED)}
