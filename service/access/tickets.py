"""Tickets: what a browser's EventSource shows in place of a key, as it can send no headers.

A ticket opens one address for a minute, so that it does no harm in a log or a history.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

SECONDS = 60
SECRET_BYTES = 32


class Tickets:
    """Issues and recognizes tickets by a secret that is kept in `file`, and made when it is first needed."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock

    def issue(self, holder: str, path: str) -> str:
        """A ticket for `holder` to read at `path`."""
        return self._signed([int(self._clock()) + SECONDS, holder, path])

    def holder(self, ticket: str, path: str) -> str | None:
        """Who got this ticket, if it is one of ours, for this path, and not too old."""
        try:
            claims, _ = ticket.split(".")
            expiry, holder, opens = json.loads(urlsafe_b64decode(claims))
            genuine = hmac.compare_digest(self._signed([expiry, holder, opens]).encode(), ticket.encode())
        except (ValueError, TypeError, RecursionError):
            return None
        return str(holder) if genuine and opens == path and self._clock() < expiry else None

    def _signed(self, claims: list[object]) -> str:
        text = urlsafe_b64encode(json.dumps(claims).encode()).decode()
        return f"{text}.{hmac.digest(self._secret, text.encode(), 'sha256').hex()}"

    @cached_property
    def _secret(self) -> bytes:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_name(f".{secrets.token_hex(8)}.partial")
        fresh.touch(mode=0o600)
        fresh.write_bytes(secrets.token_bytes(SECRET_BYTES))
        try:
            self._file.hardlink_to(fresh)  # of several that do this at once, one wins, and whole
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        return self._file.read_bytes()
