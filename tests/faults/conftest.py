"""Servers that work with the double, whose pace a test decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.server import Server

PACE = {"NTK_TEST_PACE": "0.005", "NTK_SEGMENT_SECONDS": "0.15", "NTK_CONCURRENT_RUNS": "2"}


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that no test kills."""
    server = Server(tmp_path_factory.mktemp("shared"), "double", **PACE)
    server.start()
    yield server
    assert server.stop() == 0, server.log.read_text()
    server.close()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """A server to kill."""
    server = Server(tmp_path, "double", **PACE, NTK_WARM_PROCESSES="1")
    server.start()
    yield server
    server.close()
