"""Which representation a client wants."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request

from service.errors import ServiceError


def negotiate(request: Request, offered: Sequence[str]) -> str:
    """The offered media type that the Accept header ranks highest; the first one if it has no opinion.

    Raises:
        ServiceError: it accepts none of them.
    """
    ranges = [_parse(part) for part in request.headers.get("accept", "*/*").split(",") if part.strip()]
    best = max(offered, key=lambda media: (_quality(media, ranges), -offered.index(media)))
    if ranges and _quality(best, ranges) == 0:
        hint = f"Accept one of {', '.join(offered)}."
        raise ServiceError("not-acceptable", "No representation that was asked for exists.", hint=hint)
    return best


def _parse(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weights = [p.removeprefix("q=") for p in parameters if p.startswith("q=")]
    try:
        return media, float(weights[0]) if weights else 1.0
    except ValueError:
        return media, 0.0


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    kind = media.partition("/")[0]
    for pattern in (media, f"{kind}/*", "*/*"):  # the most specific range decides
        found = [quality for candidate, quality in ranges if candidate == pattern]
        if found:
            return max(found)
    return 0.0
