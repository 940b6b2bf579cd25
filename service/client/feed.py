"""Where a reader of events stands: what it has, and how to go on after the connection was lost."""

from __future__ import annotations

import json
import time

import httpx

from service.client.operations import Patience
from service.client.problems import ConnectionLost, ProblemError
from service.client.requests import NDJSON, Request
from service.client.results import Event

LOST = frozenset({429, 502, 503})


class Feed:
    """The events of one job, each once and in order, over any number of connections."""

    def __init__(self, path: str, after: int, patience: Patience) -> None:
        self._path = f"{path}/events"
        self._after = after
        self._patience = patience
        self._failures = 0
        self._heard_at = time.monotonic()
        self.ended = False

    def request(self) -> Request:
        """What to ask for next."""
        return Request("GET", self._path, {"Accept": NDJSON}, {"after": self._after})

    def accept(self, answer: httpx.Response) -> bool:
        """Whether the answer is a stream to read; if not, its body must have been read.

        Raises:
            ProblemError: the service refuses.
        """
        if answer.status_code == 204:  # nothing follows
            self.ended = True
        elif answer.status_code != 200 and answer.status_code not in LOST:
            raise ProblemError.of(answer)
        return answer.status_code == 200

    def read(self, line: str) -> Event | None:
        """The event of a line, if there is one that was not had before."""
        self._failures, self._heard_at = 0, time.monotonic()
        if not line.strip():  # the connection is alive
            return None
        try:
            members = json.loads(line)
        except ValueError as error:  # cut off by a proxy: the next connection gives it whole
            raise httpx.RemoteProtocolError(f"a broken line: {line[:80]!r}") from error
        event = Event(members["kind"], members["seq"], members)
        if event.seq <= self._after:
            return None
        self._after = event.seq
        self.ended = event.is_final
        return event

    def lose(self, error: Exception | None = None) -> float:
        """Seconds to wait before the next connection.

        Raises:
            ConnectionLost: nothing was heard for too long.
        """
        delay = self._patience.delay(self._failures)
        self._failures += 1
        if time.monotonic() + delay - self._heard_at > self._patience.stream_seconds:
            cause = error or TimeoutError("the stream ends before its last event")
            raise ConnectionLost(self._path, cause) from error
        return delay
