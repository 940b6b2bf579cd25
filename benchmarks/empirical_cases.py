"""Empirical kernels that are measured beside the peers: networks by name, and inputs.

Both environments import this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Outputs = Literal["trace", "full"]  # sum over a = b; blocks of k x k

# Of one row; images have their channels first, as torch has them.
SHAPES: dict[str, tuple[int, ...]] = {"mlp": (784,), "cnn": (3, 32, 32), "encoder": (32, 64)}
TITLES = {
    "mlp": "MLP 784-512-512-512-10 ReLU",
    "cnn": "CNN 16-32-64 ReLU average",
    "encoder": "transformer encoder",
}
WIDTHS, CHANNELS, CLASSES = (512, 512, 512), (16, 32, 64), 10
DEPTH, DIMENSION, HEADS, FEEDFORWARD = 2, 64, 4, 256  # of the encoder


@dataclass(frozen=True)
class EmpiricalCase:
    """The NTK of a network on n inputs with themselves, in float32, at the weights of a file."""

    network: str
    n: int
    outputs: Outputs
    tools: tuple[str, ...] = ("neural-tangents", "torch.func", "autograd loop", "nngeometry")
    quick: bool = True  # part of the short form
    memory_mb: int | None = None  # of 1024^2 bytes, that our process may hold, the program included

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"empirical {TITLES[self.network]}, n = {self.n}, {self.outputs}"

    def inputs(self) -> Any:
        """Standard normal numbers: the same in every version of numpy, for RandomState is frozen."""
        shape = (self.n, *SHAPES[self.network])
        return np.random.RandomState(0).standard_normal(shape).astype(np.float32)


LARGE = EmpiricalCase("mlp", 4000, "trace", ("neural-tangents",), quick=False, memory_mb=2 * 10**9 // 1024**2)
EMPIRICAL = (
    *(EmpiricalCase("mlp", 256, outputs, quick=False) for outputs in ("trace", "full")),
    *(EmpiricalCase("mlp", 64, outputs) for outputs in ("trace", "full")),
    *(EmpiricalCase("cnn", 64, outputs) for outputs in ("trace", "full")),
    *(EmpiricalCase("encoder", 32, outputs) for outputs in ("trace", "full")),
    LARGE,
)
EMPIRICAL_BY_NAME = {case.name: case for case in EMPIRICAL}
