"""Each request by itself: its name, how it was answered, and that it always is."""

from __future__ import annotations

import logging
import re
import time
import uuid
from http import HTTPMethod
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ServiceError
from service.logs import facts
from service.metrics import Metrics
from service.routes.responses import problem_response

SOUND = re.compile(r"[A-Za-z0-9._-]{1,128}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
METHODS = frozenset(HTTPMethod)
logger = logging.getLogger(__name__)


class RequestIds:
    """Gives each request an id, `request.state.request_id`, and returns it with the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if SOUND.fullmatch(given) else uuid.uuid4().hex
        trace = TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        scope.setdefault("state", {}).update(request_id=request_id, trace_id=trace and trace["trace"])

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        await self.app(scope, receive, send_named)
        return None


class Observed:
    """Counts, times and logs each answer when it begins; a failure that nobody foresaw is one too."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, started = time.perf_counter(), False

        async def send_observed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._record(scope, message["status"], time.perf_counter() - began)
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self.app(scope, receive, send_observed)
            except Exception:
                logger.exception("a request failed", extra=facts(**_who(scope)))
                if not started:
                    error = ServiceError("internal", "Something in the service is broken.")
                    await problem_response(Request(scope), error)(scope, receive, send_observed)
        return None

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # Templates and known methods only: what clients make up would be a new time series each.
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = getattr(scope.get("route"), "path", None) or "other"
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
        told = facts(route=route, status=status, ms=round(1000 * seconds, 1), **_who(scope))
        logger.info("%s %s", method, scope["path"], extra=told)


def _who(scope: Scope) -> dict[str, Any]:
    state = scope["state"]
    principal = state.get("principal")
    return {
        "request_id": state["request_id"],
        "trace_id": state["trace_id"],
        "key": principal and principal.name,
    }
