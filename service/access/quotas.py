"""What a key may have of something, as it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.errors import ServiceError

# Room comes by deletion alone: by the key's owner or, of old jobs, once an hour.
ROOM_SECONDS = 3600


@dataclass(frozen=True)
class Quota:
    """So much of something, and what is left of it."""

    name: str
    most: int
    left: int
    unit: str | None = None
    """What is counted, where it is not requests."""
    window: int | None = None
    """Seconds for which it is granted anew, if it is."""
    back_in: int | None = None
    """Seconds until all of it is back, if anybody knows."""

    def fields(self) -> dict[str, str]:
        """What draft-ietf-httpapi-ratelimit-headers calls them."""
        unit = "" if self.unit is None else f';qu="{self.unit}"'
        window = "" if self.window is None else f";w={self.window}"
        back_in = "" if self.back_in is None else f";t={self.back_in}"
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.most}{unit}{window}',
            "RateLimit": f'"{self.name}";r={self.left}{back_in}',
        }

    def refusal(self, detail: str, *, again_in: int, **extra: Any) -> ServiceError:
        """What who asks for more is told.

        Args:
            again_in: seconds after which it may be worth another try.
            extra: further arguments of ServiceError.
        """
        headers = {"Retry-After": str(again_in), **self.fields()}
        return ServiceError("too-many-requests", detail, headers=headers, **extra)


def no_room(what: str, kept: int, added: float, most: int) -> ServiceError:
    """The refusal of something new, of a key for which others of its kind take the disk that it may have."""
    quota = Quota("disk", most, max(0, most - kept), "content-bytes")
    return quota.refusal(
        f"Your {what} take {kept:,} bytes of the {most:,} that they may; this needs {added:,.0f} more.",
        again_in=ROOM_SECONDS,
        hint="Delete what is not needed, or ask for less.",
        used={"disk_bytes": kept},
        estimate={"disk_bytes": added},
        limit={"disk_bytes": most},
    )
