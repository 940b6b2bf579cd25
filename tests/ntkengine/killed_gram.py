"""A process that computes an empirical Gram matrix on disk, to be killed and called again.

python -m tests.ntkengine.killed_gram DIRECTORY N SECONDS_BETWEEN_TILES
python -m tests.ntkengine.killed_gram DIRECTORY N 0 UNDISTURBED     finishes it, and one in another directory

The last line is JSON: tiles that were computed, tiles of the whole, and the digests of both matrices.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from torch import nn

from ntkengine import empirical_gram
from ntkengine.gram import StoredGram

BUDGET = 64 * 1024**2


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3)
    return nn.Sequential(*layers)


def points(n: int) -> torch.Tensor:
    return torch.randn(n, 20, generator=torch.Generator().manual_seed(1))


def compute(directory: Path, n: int, pause: float) -> tuple[StoredGram, int, int]:
    """The matrix, the tiles that this call computed, and those of the whole."""
    done: list[tuple[int, int]] = []

    def note(tiles: int, total: int, seconds: float) -> None:
        done.append((tiles, total))
        time.sleep(pause)

    budget = BUDGET if n > 5000 else 20 * 1024**2
    stored = empirical_gram(
        network(), points(n), directory=directory, outputs="trace", budget=budget, progress=note
    )
    return stored, len(done), done[-1][1]


def main(directory: str, n: str, pause: str, undisturbed: str = "") -> None:
    stored, computed, total = compute(Path(directory), int(n), float(pause))
    facts = {"computed": computed, "total": total, "digest": stored.digest()}
    if undisturbed:
        other, *_ = compute(Path(undisturbed), int(n), 0.0)
        facts["undisturbed"] = other.digest()
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
