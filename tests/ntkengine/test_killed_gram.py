"""An empirical Gram matrix whose process is killed: what is done stays, the rest follows, no bit differs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ntkengine import SpecError, empirical_gram
from ntkengine.gram import StoredGram
from tests.architectures import reference_jacobian
from tests.compare import assert_close
from tests.ntkengine.killed_gram import network, points

ROOT = Path(__file__).parents[2]
SAMPLE = 8  # rows and columns that are compared with gradients taken one at a time


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.ntkengine.killed_gram", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def files(directory: Path) -> dict[str, tuple[int, int]]:
    """The chunks on disk; each writing of one makes a new file, and so another value."""
    folder = directory / "gram.zarr" / "ntk"
    return {each.name: (each.stat().st_ino, each.stat().st_mtime_ns) for each in folder.glob("c.*")}


def kill_at(share: float, process: subprocess.Popen[str], directory: Path) -> None:
    """End it by SIGKILL once that much is done."""
    deadline = time.monotonic() + 600
    while not directory.exists() or StoredGram(directory).fraction() < share:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def chunks_of_done_tiles(directory: Path) -> dict[str, tuple[int, int]]:
    """Those of tiles that are recorded as done, with their mirror images: others may be written again."""
    places = np.argwhere(StoredGram(directory).done())
    names = {f"c.{a}.{b}" for i, j in places for a, b in ((i, j), (j, i))}
    return {name: value for name, value in files(directory).items() if name in names}


def killed_and_resumed(folder: Path, n: int, shares: tuple[float, ...], pause: float) -> None:
    directory = folder / "killed"
    for share in shares:
        kill_at(share, start(directory, n, pause), directory)
    killed = StoredGram(directory)
    assert shares[-1] <= killed.fraction() < 1
    kept, done = chunks_of_done_tiles(directory), int(np.triu(killed.done()).sum())
    process = start(directory, n, 0, folder / "undisturbed")
    facts: dict[str, Any] = json.loads(process.communicate()[0].splitlines()[-1])
    assert process.returncode == 0
    assert 0 < facts["computed"] == facts["total"] - done
    assert {name: files(directory)[name] for name in kept} == kept
    assert facts["digest"] == facts["undisturbed"]
    check_entries(StoredGram(directory), n)


def check_entries(stored: StoredGram, n: int) -> None:
    """Some rows against some columns, in the mirrored half, too, are what gradients give in float64."""
    module, x = network().double(), points(n).double()
    first, last = (reference_jacobian(module, x[rows]) for rows in (slice(SAMPLE), slice(n - SAMPLE, n)))
    expected = torch.einsum("iap,jap->ij", last, first)
    corner = torch.from_numpy(stored.rows("ntk", n - SAMPLE, n)[:, :SAMPLE])
    assert_close(corner.double(), expected, rtol=1e-5)
    top = torch.from_numpy(stored.rows("ntk", 0, SAMPLE)[:, -SAMPLE:])
    assert torch.equal(top, corner.T)


@pytest.mark.faults
@pytest.mark.long
def test_killed_and_resumed(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, 2000, (0.4,), pause=0.05)


@pytest.mark.verify
@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_killed_and_resumed_at_twenty_thousand(tmp_path: Path) -> None:
    """1.6 GB in about 200 tiles, killed three times."""
    killed_and_resumed(tmp_path, 20_000, (0.1, 0.4, 0.8), pause=0.0)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("change", ["weights", "inputs", "outputs", "key"])
def test_another_kernel_is_not_continued(tmp_path: Path, change: str) -> None:
    module, x = network(), points(20)
    empirical_gram(module, x, directory=tmp_path / "gram")
    fields: dict[str, Any] = {"outputs": "diagonal"} if change == "outputs" else {}
    fields |= {"key": "other"} if change == "key" else {}
    if change == "weights":
        with torch.no_grad():
            next(module.parameters())[0, 0] += 1e-3
    if change == "inputs":
        x = x + 1e-3
    with pytest.raises(SpecError, match="holds another Gram matrix"):
        empirical_gram(module, x, directory=tmp_path / "gram", **fields)
