"""How often: a bucket of permits for each key, refilled evenly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

WINDOW = 60


@dataclass
class Bucket:
    """The permits left at some moment."""

    permits: float
    at: float


@dataclass(frozen=True)
class Permit:
    """Whether one may go on, and what is left."""

    granted: bool
    left: int
    quota: int
    refilled_in: int
    """Seconds until all permits are back."""
    next_in: int
    """Seconds until there is a permit again; at least 1 where none was granted."""


class Rates:
    """At most `quota` permits a minute for each name. For one thread: it is asked by the event loop alone.

    Names are those of keys, so there are only so many buckets.
    """

    def __init__(self, quota: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._quota = quota
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def take(self, name: str) -> Permit:
        """A permit, if there is one."""
        now, per_second = self._clock(), self._quota / WINDOW
        bucket = self._buckets.setdefault(name, Bucket(self._quota, now))
        bucket.permits = min(self._quota, bucket.permits + (now - bucket.at) * per_second)
        bucket.at = now
        granted = bucket.permits >= 1
        bucket.permits -= granted
        missing = max(0.0, 1 - bucket.permits)
        return Permit(
            granted,
            math.floor(bucket.permits),
            self._quota,
            math.ceil((self._quota - bucket.permits) / per_second),
            0 if granted else max(1, math.ceil(missing / per_second)),
        )
