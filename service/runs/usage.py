"""For how long processes compute for each key, and whether it may have more of that today."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.access.quotas import Quota
from service.metrics import Metrics
from service.runs.clock import seconds_since, today, tomorrow
from service.store.database import TRANSIENT
from service.store.usage import UsageStore

DAY = 86_400
WRITTEN_SECONDS = 1.0
logger = logging.getLogger(__name__)


@dataclass
class Stint:
    """A process at work for a key; its time until `since` has been counted."""

    owner: str
    since: float


class Usage:
    """Counts the wall time of computing processes by key and day of UTC.

    What is counted is written every second, while a computation goes on too: a kill costs a second of it.
    """

    def __init__(self, store: UsageStore, metrics: Metrics, most: float | None) -> None:
        self._store = store
        self._metrics = metrics
        self._most = most
        self._lock = threading.Lock()
        self._stints: list[Stint] = []
        self._unwritten: dict[str, float] = {}

    @property
    def limited(self) -> bool:
        """Whether keys have a limit."""
        return self._most is not None

    @contextmanager
    def counting(self, owner: str | None) -> Iterator[None]:
        """Count the time that is spent within."""
        stint = Stint(owner or "", time.monotonic())
        with self._lock:
            self._stints.append(stint)
        try:
            yield
        finally:
            with self._lock:
                self._count(stint)
                self._stints.remove(stint)

    def _count(self, stint: Stint) -> None:
        moment = time.monotonic()
        self._add(stint.owner, moment - stint.since)
        stint.since = moment

    def _add(self, owner: str, seconds: float) -> None:
        self._unwritten[owner] = self._unwritten.get(owner, 0.0) + seconds

    def write(self) -> None:
        """Store what was counted; while the database is away, it is kept for the next time."""
        with self._lock:
            for stint in self._stints:
                self._count(stint)
            counted, self._unwritten = self._unwritten, {}
        if not counted:
            return
        try:
            self._store.add(today(), counted)
        except TRANSIENT as error:
            logger.warning("compute seconds are written when the database is back: %s", error)
            with self._lock:
                for owner, seconds in counted.items():
                    self._add(owner, seconds)
            return
        for owner, seconds in counted.items():
            self._metrics.compute_seconds.labels(owner).inc(seconds)

    def today(self, owner: str | None) -> float:
        """The seconds that were written for this key today."""
        return self._store.seconds(owner or "", today())

    def check(self, owner: str | None) -> None:
        """Let a key begin new work.

        Raises:
            ServiceError: it has used up its seconds of today.
        """
        if self._most is None or owner is None or (used := self.today(owner)) < self._most:
            return
        back_in = max(1, math.ceil(-seconds_since(tomorrow())))
        quota = Quota("compute", math.floor(self._most), 0, "seconds", DAY, back_in)
        raise quota.refusal(
            f"The key {owner} has used {used:,.1f} compute seconds today, of {self._most:,g}.",
            again_in=back_in,
            hint=f"There are new ones at {tomorrow()}. Work that was accepted goes on.",
            used={"compute_seconds": used},
            limit={"compute_seconds": self._most},
            again_at=tomorrow(),
        )
