"""Time as it is stored and shown."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """The time as RFC 3339 UTC; of fixed length, so that text sorts as time does."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
