"""Reading bodies strictly: size, type, syntax; validation is then FastAPI's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.message import Message
from functools import partial
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.types import Message as ASGIMessage
from starlette.types import Receive, Scope

from service.errors import ServiceError
from service.routes.forms import FORM, Files, check_encoded, read_form
from service.routes.services import services
from service.routes.strict_json import decode
from service.runs.datasets import DataSets

SMALL = 8192  # bytes of a body that is read faster than a thread is found for it


class JSONRoute(APIRoute):
    """A route whose body is JSON, or a form of JSON and files: at most so large, labelled as what it is, and
    with numbers that are numbers."""

    files: ClassVar[Files] = {}
    """Parts of the form; without any, there is no form."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """FastAPI's handler, given a stricter request."""
        handle = super().get_route_handler()
        reads_body = self.body_field is not None

        async def handle_strictly(request: Request) -> Response:
            if not reads_body:
                return await handle(request)
            read = _reader(request, self.files)
            body = await limited(request, request.app.state.settings.max_body_bytes).body()
            parts = services(request)
            # Here, because FastAPI turns what a body's reading raises into its own error.
            prepare = partial(_prepared, parts.datasets, read, body)
            decoded = prepare() if len(body) < SMALL else await run_in_threadpool(prepare)
            return await handle(DecodedRequest(request.scope, decoded))

        return handle_strictly


class DecodedRequest(Request):
    """A request whose body has been read, as if it had been JSON."""

    def __init__(self, scope: Scope, decoded: Any) -> None:
        others = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        super().__init__({**scope, "headers": [*others, (b"content-type", b"application/json")]})
        self._decoded = decoded

    async def body(self) -> bytes:
        """Something: FastAPI asks whether there is a body."""
        return b"{}"

    async def json(self) -> Any:
        """The decoded body."""
        return self._decoded


def _reader(request: Request, files: Files) -> Callable[[bytes], Any]:
    """What decodes a body of the type that the request says it has."""
    label = Message()
    label["content-type"] = sent = request.headers.get("content-type", "")
    media = label.get_content_type()
    if media == "application/json" or (media.startswith("application/") and media.endswith("+json")):
        return decode
    if media == FORM and files:
        return lambda body: read_form(body, sent, files)
    takes = f"JSON, or {FORM} with the JSON in its part `request`" if files else "JSON"
    detail = f"This endpoint reads {takes}, not {sent or 'data without a Content-Type'}."
    raise ServiceError("unsupported-media-type", detail)


def _prepared(datasets: DataSets, read: Callable[[bytes], Any], body: bytes) -> Any:
    decoded = read(body)
    try:
        if b"base64" in body or b"\\u" in body:  # in JSON a letter may be written by its number
            check_encoded(decoded)
        return datasets.put_references(decoded)
    except RecursionError:
        raise ServiceError("malformed", "The JSON is nested too deeply.") from None


def limited(request: Request, limit: int) -> Request:
    """The request, whose body raises where it goes over the limit."""
    return Request(request.scope, _limited(request, limit))


def _limited(request: Request, limit: int) -> Receive:
    """The request's body up to the limit.

    Not the framework's own limit: that answers in plain text, outside of our reach.
    """
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdecimal() else 0
    received = 0

    async def receive() -> ASGIMessage:
        nonlocal received
        if size > limit:
            raise _too_large(limit)
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return receive


def _too_large(limit: int) -> ServiceError:
    # The rest of the body is not read, so the connection cannot be used again.
    return ServiceError(
        "too-large", f"The body is larger than {limit} bytes.", headers={"Connection": "close"}
    )
