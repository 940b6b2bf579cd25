"""What browsers may be made to send here by pages that are not ours."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ServiceError, shortened
from service.routes.responses import problem_response

READING = {"GET", "HEAD", "OPTIONS"}
OWN = {"same-origin", "none"}


class Guard:
    """Refuses requests to names that are not ours, and changes that a page of another site asks for.

    The first is DNS rebinding: a name of the attacker's that leads here makes his page same-origin.
    Empty `hosts` allow any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str]) -> None:
        self.app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            try:
                self._check(scope["method"], Headers(scope=scope))
            except ServiceError as error:
                return await problem_response(Request(scope), error)(scope, receive, send)
        return await self.app(scope, receive, send)

    def _check(self, method: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._hosts and _hostname(host) not in self._hosts:
            raise ServiceError("wrong-host", f"The request is for {shortened(host)}.")
        if method not in READING and not self._is_own(headers, host):
            raise ServiceError("cross-site", "This was sent by the page of another site.")

    def _is_own(self, headers: Headers, host: str) -> bool:
        """Whether a page of ours, one that was allowed, or no page at all has sent this."""
        origin = headers.get("origin")
        if origin in self._origins:
            return True
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in OWN
        return origin is None or urlsplit(origin).netloc == host  # browsers that do not say the site


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
