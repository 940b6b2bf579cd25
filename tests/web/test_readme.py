"""The README's examples, run as they are written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
DEFAULT_ADDRESS = "http://127.0.0.1:8000"
VERDICTS = ("lazy", "rich", "between", "undetermined")


def code(heading: str, language: str) -> str:
    """The code under a heading, block after block."""
    _, _, section = README.read_text().partition(f"\n## {heading}\n")
    blocks = re.findall(rf"```{language}\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    assert blocks
    return "\n".join(blocks)


def example(heading: str, service: str, directory: Path | None = None) -> str:
    """What the commands under a heading print, sent to the service of the tests from a directory."""
    script = code(heading, "sh").replace(DEFAULT_ADDRESS, service)
    here = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # python3 is the one with the tests
    run = subprocess.run(
        ["bash", "-ec", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=directory,
        env=os.environ | {"PATH": here},
    )
    return run.stdout


def test_a_kernel(service: str) -> None:
    assert '"ntk":[[' in example("A kernel", service).replace(" ", "")


@pytest.mark.long
def test_a_run_watched(service: str) -> None:
    shown = example("A run, watched", service)
    assert shown.count("event: point") > 2
    assert shown.rstrip().split("event: ")[-1].startswith("finished")


def test_arrays_and_weights_as_files(service: str, tmp_path: Path) -> None:
    answer = json.loads(example("Arrays and weights as files", service, tmp_path))
    kernel = answer["kernels"]["ntk"]
    assert kernel == [[77.0625, 0.5625], [0.5625, 8.0625]]
    assert str(kernel) in README.read_text()


def printed(heading: str) -> str:
    """What the Python under a heading prints."""
    command = [sys.executable, "-c", code(heading, "python")]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.long
def test_is_this_network_lazy(service: str) -> None:
    assert any(f'"{verdict}"' in example("Is this network lazy?", service) for verdict in VERDICTS)


def test_training_in_closed_form() -> None:
    assert "(3, 1, 1)" in printed("Training in closed form")


def test_on_tables() -> None:
    assert printed("On tables") == "True\n"


def test_from_other_programs(service: str) -> None:
    program = code("From other programs", "python").replace(DEFAULT_ADDRESS, service)
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)
    assert shown.stdout == b"finished\n"


def test_from_python() -> None:
    assert "[1.4903, 0.1569]" in printed("From Python")


def test_layers_and_matrices_larger_than_memory() -> None:
    assert printed("Layers, and matrices larger than memory").split("\n")[:2] == [
        "torch.Size([16, 16])",
        "(2, 16)",
    ]


def test_a_module_of_your_own() -> None:
    shown = printed("A module of your own")
    assert "torch.Size([32, 32, 10, 10])" in shown
    assert "{'0': 'structured', '4': 'structured'}" in shown
