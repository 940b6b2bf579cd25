"""Blocks of Gram matrices for tests, and a process that computes one slowly enough to be killed.

python -m tests.ntkengine.slow_gram DIRECTORY N SECONDS_A_BLOCK
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ntkengine.gram import Entry, TilePlan, gram_to_store, mirrored, plan_tiles
from ntkengine.gram.compute import Block

ENTRIES = {"near": Entry(), "blocks": Entry(shape=(2, 2), dtype="float32")}


def points(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, dtype=torch.float64, generator=generator)


def kernels(x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
    """`near` exp(-|x - x'|^2), and `blocks` x_a x'_b + |x - x'|^2 of the first two coordinates a, b."""
    difference = x1[:, None] - x2[None]
    squares = difference[..., 0] ** 2 + difference[..., 1] ** 2 + difference[..., 2] ** 2
    outer = x1[:, None, :2, None] * x2[None, :, None, :2]
    return {"near": torch.exp(-squares), "blocks": (outer + squares[..., None, None]).float()}


def block_of(x1: Tensor, x2: Tensor | None = None) -> Block:
    """Blocks of those kernels, symmetric to the last bit on the diagonal."""

    def block(rows: slice, columns: slice) -> Mapping[str, Tensor]:
        values = kernels(x1[rows], (x1 if x2 is None else x2)[columns])
        if x2 is not None or rows != columns:
            return values
        return {name: (value + mirrored(value)) / 2 for name, value in values.items()}

    return block


def stored_plan(n: int, workers: int = 2) -> TilePlan:
    """One of a few dozen ragged tiles of several blocks."""
    chunk = 16 * (n // 7) ** 2
    return plan_tiles(
        ENTRIES, n, bytes_per_pair=100, in_memory=False, cache=2000, chunk=chunk, workers=workers
    )


def main(directory: str, n: str, seconds: str) -> None:
    block = block_of(points(int(n)))

    def slow(rows: slice, columns: slice) -> Mapping[str, Tensor]:
        time.sleep(float(seconds))
        return block(rows, columns)

    gram_to_store(slow, ENTRIES, stored_plan(int(n)), Path(directory), key="slow")


if __name__ == "__main__":
    main(*sys.argv[1:])
