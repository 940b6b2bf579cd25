"""Reading JSON bodies strictly: size, type, syntax; validation is then FastAPI's."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from email.message import Message
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message as ASGIMessage
from starlette.types import Receive

from service.errors import Offence, ServiceError


class JSONRoute(APIRoute):
    """A route whose body is JSON: at most so large, labelled as such, and with numbers that are numbers."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """FastAPI's handler, given a stricter request."""
        handle = super().get_route_handler()
        reads_body = self.body_field is not None

        async def handle_strictly(request: Request) -> Response:
            if not reads_body:
                return await handle(request)
            limit = request.app.state.settings.max_body_bytes
            strict = StrictRequest(request.scope, _limited(request, limit))
            _refuse_other_types(strict)
            await (
                strict.decode()
            )  # here, because FastAPI turns what a body's reading raises into its own error
            return await handle(strict)

        return handle_strictly


class StrictRequest(Request):
    """A request whose JSON has no NaN and no infinities."""

    decoded: Any = None

    async def json(self) -> Any:
        """The decoded body."""
        return self.decoded

    async def decode(self) -> None:
        """Read and decode the body.

        Raises:
            ServiceError: it is no JSON.
        """
        text = await self.body()
        try:
            self.decoded = json.loads(text, parse_constant=_refuse)
        except NotANumber as error:
            raise _not_finite(text, error) from None
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise ServiceError("malformed", f"The body is no JSON: {error.msg} at {where}.") from None
        except (ValueError, RecursionError) as error:  # bytes, numbers of many digits, deep nesting
            raise ServiceError("malformed", f"The body is no JSON that is read here: {error}.") from None


class NotANumber(Exception):
    """A literal that Python reads and JSON does not have."""


def _refuse(literal: str) -> None:
    raise NotANumber(literal)


def _not_finite(text: bytes, error: NotANumber) -> ServiceError:
    """The problem with its pointer: decode once more, now only looking for the literal."""
    literal = str(error)
    found = object()
    pointer = _pointer_to(json.loads(text, parse_constant=lambda _: found), found) or ""
    hint = "JSON has finite numbers only; leave out what is missing."
    wrong = Offence(pointer=pointer, detail=f"{literal} is no JSON number.", got=literal, hint=hint)
    return ServiceError("invalid", f"{literal} is no JSON number: {pointer}", offences=[wrong])


def _pointer_to(value: Any, sought: object) -> str | None:
    pending = [("", value)]
    while pending:
        pointer, here = pending.pop()
        if here is sought:
            return pointer
        keys = here.keys() if hasattr(here, "keys") else range(len(here)) if hasattr(here, "append") else ()
        pending += [(f"{pointer}/{key}", here[key]) for key in reversed(list(keys))]
    return None


def _refuse_other_types(request: Request) -> None:
    label = Message()
    label["content-type"] = request.headers.get("content-type", "")
    if label.get_content_maintype() == "application":
        subtype = label.get_content_subtype()
        if subtype == "json" or subtype.endswith("+json"):
            return
    sent = label["content-type"] or "data without a Content-Type"
    raise ServiceError("unsupported-media-type", f"This endpoint reads JSON, not {sent}.")


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
