"""Servers that tests ask something: one with the engine, one with the double, one with keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import httpx
import pytest

from tests.service.guarded import Guarded
from tests.service.server import Server

AServer = TypeVar("AServer", bound=Server)


@pytest.fixture(scope="package")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that works with the real engine."""
    yield from serve(Server(tmp_path_factory.mktemp("engine"), "engine", NTK_SEGMENT_SECONDS="0.1"))


@pytest.fixture(scope="package")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose runs take no time: for all that does not depend on what they compute."""
    yield from serve(Server(tmp_path_factory.mktemp("double"), "double", NTK_CONCURRENT_RUNS="2"))


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The same with keys."""
    yield from serve(Guarded(tmp_path_factory.mktemp("guarded"), "double"))


def serve(server: AServer) -> Iterator[AServer]:
    """The server, from its start to its end."""
    server.start()
    yield server
    assert server.stop() == 0, server.log.read_text()
    server.close()


@pytest.fixture
def client(double: Server) -> httpx.Client:
    """A client of the server that works with the double."""
    return double.client
