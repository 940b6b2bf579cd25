"""The engine, and the containers of docker-compose.yml."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from service.client import Client
from tests.service.server import JSONObject

ROOT = Path(__file__).parents[2]
IMAGE = os.environ.get("NTK_IMAGE", "ntkengine")
PATIENCE = 180
WORKERS = 2


def run(command: list[str], environment: Mapping[str, str] | None = None, *, check: bool = True) -> str:
    """What a command prints. What it complains of is shown where it fails."""
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def docker(*arguments: str, check: bool = True) -> str:
    """What `docker` answers."""
    return run([os.environ["DOCKER"], *arguments], check=check)


def logs(container: str) -> str:
    """What it has said."""
    return run(["sh", "-c", '"$DOCKER" logs "$0" 2>&1', container])


def inspect(name: str) -> JSONObject:
    """All that the engine knows of a container or an image."""
    found: JSONObject = json.loads(docker("inspect", name))[0]
    return found


def is_healthy(container: str) -> bool:
    """Whether its health check says so."""
    state = inspect(container)["State"]
    assert state["Running"], logs(container)
    return bool(state["Health"]["Status"] == "healthy")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


# What is to hold in a container: no capability and none to be had, not root, and nowhere to write but /tmp.
LOCKED_DOWN = """
grep -q '^CapEff:.0000000000000000' /proc/1/status
grep -q '^CapBnd:.0000000000000000' /proc/1/status
grep -q '^NoNewPrivs:.1' /proc/1/status
test "$(id -u)" != 0
! touch /written /opt/written /usr/written 2>/dev/null
touch /tmp/written
"""


class Stack:
    """docker-compose.yml, as a project of its own."""

    def __init__(self, secrets: Path) -> None:
        port = free_port()
        self._environment = {
            "NTK_SECRETS": str(secrets),
            "NTK_PUBLISH": f"127.0.0.1:{port}",
            "NTK_LEASE_SECONDS": "3",
        }
        self.url = f"http://127.0.0.1:{port}"
        self.client = Client(self.url, key=(secrets / "key").read_text())

    def compose(self, *arguments: str) -> str:
        """What Docker Compose answers."""
        return run([os.environ["DOCKER_COMPOSE"], "--progress", "quiet", *arguments], self._environment)

    def up(self) -> None:
        """Start what does not run, until all is healthy."""
        waiting = ("--wait", "--wait-timeout", str(PATIENCE))
        self.compose(
            "up", "--detach", "--no-build", "--pull", "never", "--scale", f"worker={WORKERS}", *waiting
        )

    def containers(self, *services: str) -> list[str]:
        """The containers that run, of all services or of some."""
        return self.compose("ps", "--quiet", *services).split()

    def computes(self, run_id: str, service: str) -> str | None:
        """The container of the service that said that it computes the run, if one did."""
        said = f"{run_id}: process"
        return next((found for found in self.containers(service) if said in logs(found)), None)

    def close(self) -> None:
        """Remove the containers and what they have kept."""
        self.client.close()
        self.compose("down", "--volumes", "--timeout", "5")
