"""A process that stores gradient features slowly enough to be killed.

python -m tests.ntkengine.slow_features DIRECTORY SECONDS_A_PASS
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from ntkengine.empirical.features import gradient_features_to_store
from ntkengine.gram import StoredGram

DIMENSION = 2**16  # so that a chunk of 4 MiB holds four inputs
SEED = 3


class Slow(nn.Module):
    """A network that takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(torch.randn(3, 2, dtype=torch.float64, generator=generator))
        self.v = nn.Parameter(torch.randn(2, 2, dtype=torch.float64, generator=generator))
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return torch.tanh(x @ self.w) @ self.v


def points() -> Tensor:
    return torch.randn(46, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def store(directory: Path, seconds: float) -> StoredGram:
    return gradient_features_to_store(Slow(seconds), points(), DIMENSION, directory=directory, seed=SEED)


if __name__ == "__main__":
    store(Path(sys.argv[1]), float(sys.argv[2]))
