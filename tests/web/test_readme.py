"""The README's examples and the commands of the documentation, run as they are written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.service.postgres import Postgres
from tests.web.command import announced_address, ntk

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
README, DOCS = ROOT / "README.md", ROOT / "docs"
DEFAULT_ADDRESS = "http://127.0.0.1:8000"
SHELL = re.compile(
    r"^```sh\n(?P<code>.*?)^```\n(?:\n^```text\n(?P<shown>.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
PAGES = sorted(path for path in DOCS.rglob("*.md") if "```sh" in path.read_text())
# With servers of their own, or with other checks:
APART = {"machines", "operate"}


class Commands(NamedTuple):
    """A block, and what is said to be printed by it."""

    code: str
    shown: str


def commands(page: Path, heading: str = "") -> list[Commands]:
    """The commands of a page, or of a section of it."""
    section = page.read_text()
    if heading:
        section = section.partition(f"\n## {heading}\n")[2].split("\n## ")[0]
    found = [Commands(each["code"], each["shown"] or "") for each in SHELL.finditer(section)]
    assert found
    return found


def shell(script: str, service: str, directory: Path | None = None) -> str:
    """What a script prints, sent to the service of the tests from a directory; that it fails is an error."""
    here = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # python3 and ntk are those of the tests
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(DEFAULT_ADDRESS, service)],
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
        cwd=directory,
        env=os.environ | {"PATH": here},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_kernel(service: str) -> None:
    (block,) = commands(README, "A kernel, by curl")
    answer = json.loads(shell(block.code, service))
    assert len(answer["kernels"]["ntk"]) == 5


@pytest.mark.long
def test_a_run_watched(service: str) -> None:
    (block,) = commands(README, "A run, watched")
    shown = shell(block.code, service)
    assert shown.count("event: point") > 2
    assert '"kernel_distance":' in shown.replace(" ", "")
    assert shown.rstrip().split("event: ")[-1].startswith("finished")


def test_from_python() -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    command = [sys.executable, "-W", "error", "-c", program]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout
    assert "[1.4903, 0.1569]" in shown
    assert "torch.Size([32, 32, 10, 10])" in shown


@pytest.mark.long
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem not in APART], ids=lambda page: page.stem
)
def test_commands_of_the_documentation(page: Path, service: str, tmp_path: Path) -> None:
    """The blocks of a page are one script; what stands under one is among what it prints."""
    blocks = commands(page)
    printed = shell("\n".join(block.code for block in blocks), service, tmp_path)
    assert printed
    assert all(block.shown in printed for block in blocks)


@pytest.mark.long
def test_operating(service: str, data_dir: Path, tmp_path: Path) -> None:
    script = "\n".join(block.code for block in commands(DOCS / "how-to" / "operate.md"))
    for named, here in {
        "/srv/ntk-restored": tmp_path / "restored",
        "/srv/ntk": data_dir,
        "/srv/backups": tmp_path,
    }.items():
        script = script.replace(named, str(here))
    shown = shell(script, service)
    assert "operator:" in shown
    assert (tmp_path / "restored" / "ntk.sqlite").is_file()


@pytest.mark.long
def test_several_machines(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server and the worker of the page, on a database of the tests; the worker computes."""
    settings, serve, work = (block.code.strip() for block in commands(DOCS / "how-to" / "machines.md"))
    for line in settings.splitlines():
        name, value = line.removeprefix("export ").split("=", 1)
        monkeypatch.setenv(name, value.replace("/srv/ntk", str(tmp_path)))
    monkeypatch.setenv("NTK_DATABASE_URL", postgres.database("machines"))
    flag, *server = serve.replace("--port 8000", "--port 0").split()
    monkeypatch.setenv(*flag.split("=", 1))
    with ntk(*server[1:]) as serving:
        address = announced_address(serving)
        monkeypatch.delenv(flag.split("=", 1)[0])
        with ntk(*work.split()[1:]):
            shown = shell(f"ntk run quadratic_one_neuron --url {DEFAULT_ADDRESS}", address)
        serving.terminate()
        serving.wait(20)
    assert '"finished"' in shown


def test_client(service: str) -> None:
    page = (DOCS / "how-to" / "clients.md").read_text()
    programs = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for program, expected in zip(programs, ("finished\n", "(10, 10)\n"), strict=True):
        here = program.replace(DEFAULT_ADDRESS, service)
        shown = subprocess.run(
            [sys.executable, "-c", here], check=True, capture_output=True, text=True, timeout=60
        )
        assert shown.stdout == expected
