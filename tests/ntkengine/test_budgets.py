"""Kernels keep to their memory budget, whatever the network, the sizes and the budget; or are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MARGIN = 1.1
HARD = (1, 2, 8, 26)  # seeds whose kernels come near their budgets in a second or two


def measured(first: int, count: int) -> list[dict[str, Any]]:
    """What each kernel of some seeds took, each in a process of its own."""
    command = [sys.executable, "-m", "tests.ntkengine.budgets", str(first), str(count)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def check(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert "peak" in each, each
        assert each["peak"] <= MARGIN * each["budget"], each


@pytest.mark.long
def test_a_few() -> None:
    check([each for seed in HARD for each in measured(seed, 1)])


@pytest.mark.verify
@pytest.mark.timeout(3600)
def test_two_hundred() -> None:
    found = measured(100, 200)
    check(found)
    near = [each["peak"] / each["budget"] for each in found]
    assert max(near) > 0.5  # or budgets would not have mattered
