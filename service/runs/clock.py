"""Time as it is stored and shown."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta


def now() -> str:
    """The time as RFC 3339 UTC; of fixed length, so that text sorts as time does."""
    return _text(datetime.now(UTC))


def days_ago(days: float) -> str:
    """The time that many days ago, in the same form."""
    return _text(datetime.now(UTC) - timedelta(days=days))


def today() -> str:
    """The date in UTC, as RFC 3339 has it."""
    return datetime.now(UTC).date().isoformat()


def tomorrow() -> str:
    """When the next day begins in UTC, in the same form as `now`."""
    return _text(datetime.combine(datetime.now(UTC).date() + timedelta(days=1), time.min, UTC))


def seconds_since(moment: str) -> float:
    """How long ago `moment`, a time in this form, was; negative if the clock was set back since."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
