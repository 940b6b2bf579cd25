"""Large kernels on a real Ray cluster of this machine, which asks for a token."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.settings import Settings
from tests.service.server import JSONObject, Server, eventually

pytestmark = [pytest.mark.verify, pytest.mark.timeout(600)]
pytest.importorskip("ray")

TOKEN = secrets.token_hex(16)
ROOT = Path(__file__).parents[2]
ROWS = 1500
KERNEL: JSONObject = {
    "model": {"layers": [{"kind": "dense"}, {"kind": "relu"}, {"kind": "dense", "width": 1}]},
    "x1": np.random.default_rng(0).normal(size=(ROWS, 3)).tolist(),
    "of": {"kind": "infinite"},
    "dtype": "float64",
}
AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
SMALL = {"NTK_JOB_MEMORY_BYTES": str(128 * 2**20)}  # so that there are several tiles


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster with two processors."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    directory = tmp_path_factory.mktemp("ray")
    ray = str(Path(sys.executable).with_name("ray"))
    options = {
        "node-ip-address": "127.0.0.1", "port": port, "num-cpus": 2, "include-dashboard": "false",
        "object-store-memory": 100 * 2**20,
    }  # fmt: skip
    command = [ray, "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = {**os.environ, **AUTH, "PYTHONPATH": str(ROOT)}
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        eventually(lambda: "Ray runtime started" in (directory / "log").read_text(), 120)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def computed(server: Server) -> JSONObject:
    """The job when it has ended."""
    server.start()
    body = {"Prefer": "respond-async"}
    job = server.client.post("/kernel", json=KERNEL, headers=body).json()["id"]

    def ended() -> JSONObject | None:
        found: JSONObject = server.client.get(f"/kernels/{job}").json()
        return found if found["ended_at"] else None

    return eventually(ended, 300)


def content(server: Server, job: JSONObject) -> bytes:
    answer = server.client.get(job["links"]["data"], headers={"Accept": "application/x-npy"})
    assert answer.status_code == 200, answer.text
    return answer.content


def test_the_same_kernel_as_here(tmp_path: Path, cluster: str) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here = Server(tmp_path / "here", "engine", **SMALL)
    there = Server(tmp_path / "there", "engine", NTK_RAY_ADDRESS=cluster, **AUTH, **SMALL)
    try:
        on_this_machine = computed(here)
        on_cluster = computed(there)
        assert on_cluster["status"] == "succeeded", on_cluster["error"]
        assert on_cluster["result"]["processors"] == 2
        assert on_cluster["progress"]["tiles"]["total"] > 1
        assert content(there, on_cluster) == content(here, on_this_machine)
    finally:
        here.close()
        there.close()


def test_a_wrong_token_is_told(tmp_path: Path, cluster: str) -> None:
    server = Server(tmp_path, "engine", NTK_RAY_ADDRESS=cluster, **{**AUTH, "RAY_AUTH_TOKEN": TOKEN[::-1]})
    try:
        job = computed(server)
        assert (job["status"], job["error"]["category"]) == ("failed", "unavailable")
        assert "RAY_AUTH_TOKEN" in job["error"]["hint"]
    finally:
        server.close()


def test_no_cluster_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from service.app import create_app

    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(RuntimeError, match="RAY_AUTH_MODE=token"):
        create_app(Settings(ray_address="127.0.0.1:1"))
