"""What no import contract can say: which modules stay light when they are imported."""

import subprocess
import sys

import pytest

LIGHT = [
    "ntkengine",
    "ntkengine.dynamics",
    "ntkengine.estimators",
    "ntkengine.experiments",
    "ntkengine.kernels",
    "ntkengine.predict",
    "ntkengine.sweeps",
    "service.app",
    "service.client",
    "service.cli",
]


@pytest.mark.parametrize("module", LIGHT)
def test_imports_no_torch(module: str) -> None:
    # torch costs seconds and 200 MB, and the process that serves the web never computes
    program = f"import sys, {module}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout == "False\n"
