"""The `ntk` command as a user runs it."""

import shlex
import signal
import socket
from importlib.metadata import version
from pathlib import Path

import httpx

from tests.web.command import announced_address, ntk


def test_version() -> None:
    with ntk("version") as process:
        assert process.communicate()[0].strip() == version("ntkengine")


def test_serve_announces_a_kernel_that_works_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    with ntk("serve", "--port", "0", "--data-dir", str(tmp_path)) as process:
        address = announced_address(process)
        assert process.stdout
        curl = next(line for line in process.stdout if line.startswith("curl"))
        _, url, _, header, _, body = shlex.split(curl)
        assert url == f"{address}/kernel"
        answer = httpx.post(url, content=body, headers=dict([header.split(": ")]), timeout=60)
        assert answer.json()["shape"] == [2, 2]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with ntk("serve", "--port", str(port), "--data-dir", str(data)) as process:
            said, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"port {port}: Address already in use" in said
    assert "--port" in said
    assert not data.exists()


def test_a_service_that_cannot_start_says_why(service: str, data_dir: Path) -> None:
    with ntk("serve", "--port", "0", "--data-dir", str(data_dir)) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "another server uses" in said


def test_an_address_that_is_none_is_said() -> None:
    with ntk("serve", "--host", "nowhere.invalid") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Cannot listen on nowhere.invalid" in said
    assert "--host" in said


def test_a_directory_that_cannot_keep_runs_is_named_with_what_to_do(tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    with ntk("serve", "--port", "0", "--data-dir", str(file)) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"{file} cannot keep runs: File exists" in said
    assert "--data-dir" in said


def test_a_setting_that_cannot_be_used_is_named() -> None:
    with ntk("serve", "--port", "70000") as process:
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "NTK_PORT" in said
    assert "70000" in said
    assert "Traceback" not in said
