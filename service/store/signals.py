"""Short messages between processes that share a database: a topic and a job's id.

They only make things quicker and may be lost: who waits for one looks into the database now and then, too.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import psycopg

CHANNEL = "ntk"
LOOK_SECONDS = 1.0  # how often all waiting look for themselves
RETRY_SECONDS = 0.5
logger = logging.getLogger(__name__)

Receive = Callable[[str, str], None]
Look = Callable[[], None]


class Signals(ABC):
    """How processes reach each other."""

    @abstractmethod
    def start(self, receive: Receive, look: Look) -> None:
        """Call `receive(topic, job_id)` for what others send, and `look` when something may have been missed.

        Both are called in another thread, and should return soon.
        """

    @abstractmethod
    def send(self, topic: str, job_id: str) -> None:
        """Tell all others; safe from any thread."""

    @abstractmethod
    def stop(self) -> None:
        """Receive no more."""


class Alone(Signals):
    """There are no others."""

    def start(self, receive: Receive, look: Look) -> None:
        """Nothing will come."""

    def send(self, topic: str, job_id: str) -> None:
        """Nobody listens."""

    def stop(self) -> None:
        """Nothing was begun."""


class PostgresSignals(Signals):
    """LISTEN and NOTIFY, on two connections of their own."""

    def __init__(self, engine: sa.Engine) -> None:
        self._arguments = dict(engine.dialect.create_connect_args(engine.url)[1])
        self._lock = threading.Lock()
        self._sender: psycopg.Connection[Any] | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, receive: Receive, look: Look) -> None:
        """Begin to listen, and keep trying while the database is away."""
        self._thread = threading.Thread(
            target=self._keep_listening, args=(receive, look), name="signals", daemon=True
        )
        self._thread.start()

    def send(self, topic: str, job_id: str) -> None:
        """Tell all others; what cannot be sent is left to their own looking."""
        import psycopg

        with self._lock:
            try:
                sender = self._sender or self._connect()
                self._sender = sender
                sender.execute("SELECT pg_notify(%s, %s)", (CHANNEL, f"{topic} {job_id}"))
            except psycopg.OperationalError as error:
                logger.info("a signal was not sent: %s", error)
                self._sender = None

    def stop(self) -> None:
        """End the thread and both connections."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=LOOK_SECONDS + RETRY_SECONDS)
        with self._lock:
            if self._sender is not None:
                self._sender.close()

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg

        connection = psycopg.connect(**self._arguments, autocommit=True)
        connection.execute("SET synchronous_commit = off")  # a signal is worth no waiting for the disk
        return connection

    def _keep_listening(self, receive: Receive, look: Look) -> None:
        import psycopg

        while not self._stopping.is_set():
            try:
                with self._connect() as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._listen(connection, receive, look)
            except psycopg.OperationalError as error:
                logger.warning("signals cannot be received, trying again: %s", error)
                look()
                self._stopping.wait(RETRY_SECONDS)

    def _listen(self, connection: psycopg.Connection[Any], receive: Receive, look: Look) -> None:
        while not self._stopping.is_set():
            look()
            for signal in connection.notifies(timeout=LOOK_SECONDS):
                if self._sender is None or signal.pid != self._sender.info.backend_pid:  # not our own
                    topic, _, job_id = signal.payload.partition(" ")
                    receive(topic, job_id)
