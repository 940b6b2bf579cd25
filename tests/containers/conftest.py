"""Containers of the image and of docker-compose.yml, run by the engine of scripts/containers.sh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.stack import ROOT, Stack, docker, run


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What scripts/container_secrets.sh makes, and the key that it prints."""
    to = tmp_path_factory.mktemp("secrets")
    (to / "key").write_text(run([str(ROOT / "scripts/container_secrets.sh"), str(to), "tester"]))
    return to


@pytest.fixture(scope="session")
def stack(secrets: Path) -> Iterator[Stack]:
    """The compose file's containers, all healthy."""
    found = Stack(secrets)
    found.up()
    yield found
    found.close()


@pytest.fixture
def alone() -> Iterator[str]:
    """The name of a container that is removed in the end, and of its network."""
    docker("network", "create", "alone")
    yield "alone"
    docker("rm", "--force", "--volumes", "alone")
    docker("network", "rm", "alone")
