"""A kernel that is too large for the budget, to disk: python -m benchmarks.stored NAME. It is run once."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.cases import BY_NAME
from benchmarks.measure import peak_mb, seconds_of
from ntkengine import Model, infinite_kernel
from ntkengine.gram import StoredGram
from ntkengine.infinite import infinite_gram
from ntkengine.spec import from_jsonable

BUDGET = 2 * 1024**3  # bytes
CORNER = 256  # inputs whose kernel is computed again, in memory


def main(name: str) -> None:
    """Print seconds, peak, size on disk, and how far what was stored is from the same in memory."""
    case = BY_NAME[name]
    model = from_jsonable(Model, case.model)
    x = torch.from_numpy(case.inputs())
    base = peak_mb()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        directory = Path(folder) / "gram"
        seconds = seconds_of(lambda: infinite_gram(model, x, directory=directory, budget=BUDGET))
        facts = {"seconds": [seconds], "peak_mb": peak_mb(), "base_mb": base, "disk_mb": size_mb(directory)}
        facts["difference"] = difference(model, x, directory)
    print(json.dumps(facts))


def size_mb(directory: Path) -> int:
    """What the files of a directory hold."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) // 1024**2


def difference(model: Model, x: torch.Tensor, directory: Path) -> float:
    """The largest one in the lower left corner, which is a mirror image, over the largest entry."""
    stored = StoredGram(directory).rows("ntk", len(x) - CORNER, len(x))[:, :CORNER]
    again = infinite_kernel(model, x[-CORNER:], x[:CORNER]).ntk.numpy()
    return float(np.abs(stored - again).max() / np.abs(again).max())


if __name__ == "__main__":
    main(*sys.argv[1:])
