"""The README's examples, run as they are written."""

import re
import subprocess
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
DEFAULT_ADDRESS = "http://127.0.0.1:8000"


def example(heading: str, service: str) -> str:
    """What the commands under a heading print, sent to the service of the tests."""
    _, _, section = README.read_text().partition(f"\n## {heading}\n")
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block
    script = block[1].replace(DEFAULT_ADDRESS, service)
    run = subprocess.run(["bash", "-ec", script], check=True, capture_output=True, text=True, timeout=100)
    return run.stdout


def test_a_kernel(service: str) -> None:
    assert '"ntk":[[' in example("A kernel", service).replace(" ", "")


@pytest.mark.long
def test_a_run_watched(service: str) -> None:
    shown = example("A run, watched", service)
    assert shown.count("event: point") > 2
    assert shown.rstrip().split("event: ")[-1].startswith("finished")
