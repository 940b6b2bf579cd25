"""What no import contract can say: which modules stay light when they are imported."""

import subprocess
import sys

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


PROGRAM = """
import importlib, sys
print([name for name in sys.argv[1:] if importlib.import_module(name) and 'torch' in sys.modules])
"""


def test_imports_no_torch() -> None:
    # torch costs seconds and 200 MB, and the process that serves the web never computes
    command = [sys.executable, "-c", PROGRAM, *LIGHT]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert run.stdout == "[]\n", "torch is there once the first of these is imported"
