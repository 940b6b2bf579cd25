"""Serving until told to stop, and then stopping without a fuss."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.access.keys import Keyring
from service.settings import Settings, is_loopback

# Only a backstop: streams and requests are brought to their end by the application, sooner.
GRACE_SECONDS = 2


class TooOpen(Exception):
    """Strangers would reach a service that asks nobody for a key."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} can be reached from other machines, and there are no keys: make one with "
            "`ntk keys new NAME` and set NTK_API_KEYS. Where strangers are kept out otherwise, "
            "set NTK_ALLOW_OPEN=1."
        )


def check_exposure(settings: Settings, listener: socket.socket) -> None:
    """Refuse to serve everyone by mistake.

    Raises:
        TooOpen: the listener can be reached from other machines, and neither keys nor the operator say so.
        ValueError: the keys cannot be read.
    """
    host = listener.getsockname()[0]
    keys = Keyring.read(settings.api_keys, settings.api_keys_file)
    if keys.is_open and not settings.allow_open and not is_loopback(host):
        raise TooOpen(host)


class Server(uvicorn.Server):
    """A server that tells the application first when it is to stop.

    uvicorn would wait for open streams and then cancel them, and end by the signal that it was stopped with.
    """

    def __init__(self, config: uvicorn.Config, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._leave = leave

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; asked a second time, stop at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        asyncio.get_running_loop().call_soon_threadsafe(self._leave)


def server_of(app: FastAPI, settings: Settings) -> Server:
    """The server of an application that `create_app` has made; it logs as the application does."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return Server(config, app.state.departure.begin)
