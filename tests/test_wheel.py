"""The wheel, installed in an environment made for it, does what README.md says.

Only the wheel is installed. What it depends on is borrowed from the environment of the tests, since torch
alone takes minutes. So this shows that the wheel is complete and that its commands work; that all it depends
on can be had is for scripts/resolve.sh to show, and that this suffices, for the container image.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.server import eventually

pytestmark = [pytest.mark.long, pytest.mark.timeout(240), pytest.mark.xdist_group("wheel")]  # one install

ROOT = Path(__file__).parents[1]
PACKAGES = ("ntkengine", "service")
README_ADDRESS = "127.0.0.1:8000"

# As a reader would enter them, one after the other: some go on with what an earlier one has made.
ENTER = "import sys; [exec(block, globals()) for block in sys.stdin.read().split('\\0')]"


def blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(to), str(ROOT)]
    subprocess.run(build, check=True)
    (found,) = to.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which commands are those of the installed wheel."""
    at = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(at)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(at / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (own,) = at.glob("lib/python*/site-packages")
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib"))  # comes after what is installed here
    paths = f"{at / 'bin'}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NTK_", "PYTHON"))}
    return kept | {"PATH": paths}


@pytest.fixture(scope="module")
def address(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `ntk serve` of the wheel answers."""
    at = tmp_path_factory.mktemp("serve")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["ntk", "serve", "--port", str(port)]
    with (at / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=at, env=environment, stdout=log, stderr=log)
    found = f"127.0.0.1:{port}"
    eventually(lambda: answers(f"http://{found}/readyz"), 60)
    yield found
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0, (at / "log").read_text()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    ours = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == ours
    assert {"service/web/static/index.html", "service/py.typed", "ntkengine/py.typed"} <= packed


def test_it_is_the_wheel_that_is_tested(environment: dict[str, str], tmp_path: Path) -> None:
    program = "import ntkengine, service; print(ntkengine.__file__, service.__file__)"
    command = ["python", "-c", program]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    prefix = str(Path(environment["PATH"].split(os.pathsep)[0]).parent)
    assert all(file.startswith(prefix) for file in found.stdout.split())


def test_the_pages_are_served(address: str) -> None:
    page = httpx.get(f"http://{address}/").text
    assets = re.findall(r'(?:src|href)="(/?[^"#:]+\.(?:js|css|svg))"', page)
    assert assets
    for path in [*assets, "docs", "openapi.json"]:
        assert answers(f"http://{address}/{path.lstrip('/')}"), path


def test_the_commands_of_the_readme(address: str, environment: dict[str, str], tmp_path: Path) -> None:
    commands = "".join(block for block in blocks("sh") if "curl" in block)
    assert commands.count("curl") >= 3
    script = "set -euo pipefail\n" + commands.replace(README_ADDRESS, address).replace("curl ", "curl -f ")
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert '"ntk":[[' in done.stdout.replace(" ", "")
    assert '"outcome":"' in done.stdout.replace(" ", "")


def test_the_programs_of_the_readme(environment: dict[str, str], tmp_path: Path) -> None:
    programs = blocks("python")
    assert programs
    done = subprocess.run(
        ["python", "-W", "error", "-c", ENTER], input="\0".join(programs),
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "1.4903" in done.stdout
