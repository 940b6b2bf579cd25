"""Who asks, and whether they may: keys at the door, and tickets for those that cannot send a key."""

from __future__ import annotations

from typing import Annotated, Any, cast
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import tickets
from service.access.keys import ANYONE, Keyring, Principal
from service.access.keys import Scope as Right
from service.access.quotas import Quota
from service.access.rates import WINDOW, Permit, Rates
from service.access.tickets import Tickets
from service.errors import ServiceError
from service.routes.body import JSONRoute
from service.routes.documentation import JSON_BODY, problems
from service.routes.responses import json_response, problem_response

# The probes; the pages with what they are made of, which are the same for everyone.
PUBLIC = {"/healthz", "/readyz", "/", "/docs", "/openapi.json"}
PUBLIC_FILES = "/static/"
STREAM = "/events"
# What a path needs; others by their method, so that a new one is never left open: reading or changing.
RIGHTS = {"/metrics": Right.ADMIN, "/tickets": Right.READ}
READING = {"GET", "HEAD"}

CHALLENGE = 'Bearer realm="ntkengine"'


class Access:
    """Lets in who has a key, puts them on the request as its `principal`, and counts what they ask for."""

    def __init__(self, app: ASGIApp, keys: Keyring, tickets: Tickets, rates: Rates) -> None:
        self.app = app
        self._keys = keys
        self._tickets = tickets
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            permit = self._admit(scope)
        except ServiceError as error:
            return await problem_response(Request(scope), error)(scope, receive, send)
        await self.app(scope, receive, send if permit is None else _telling(permit, send))
        return None

    def _admit(self, scope: Scope) -> Permit | None:
        path = scope["path"]
        if self._keys.is_open or path in PUBLIC or path.startswith(PUBLIC_FILES):
            scope["state"]["principal"] = ANYONE
            return None
        principal = self._identify(scope)
        scope["state"]["principal"] = principal
        needed = RIGHTS.get(path, Right.READ if scope["method"] in READING else Right.COMPUTE)
        if not principal.may(needed):
            challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{needed}"'
            detail = f"This needs the scope {needed}, which the key {principal.name} does not have."
            raise ServiceError("forbidden", detail, headers={"WWW-Authenticate": challenge})
        return self._count(principal) if needed is Right.COMPUTE else None

    def _identify(self, scope: Scope) -> Principal:
        scheme, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            principal = self._keys.holder(secret.strip())
            wrong = "This key is not known here; it may have been withdrawn."
        else:
            principal, wrong = self._by_ticket(scope), "The request has no key."
        if principal is None:
            challenge = f'{CHALLENGE}, error="invalid_token"' if scheme else CHALLENGE
            raise ServiceError("unauthorized", wrong, headers={"WWW-Authenticate": challenge})
        return principal

    def _by_ticket(self, scope: Scope) -> Principal | None:
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("ticket", [])
        if not shown or not scope["path"].endswith(STREAM) or scope["method"] not in READING:
            return None
        name = self._tickets.holder(shown[0], scope["path"])
        return None if name is None else self._keys.named(name)

    def _count(self, principal: Principal) -> Permit:
        permit = self._rates.take(principal.name or "")
        if not permit.granted:
            detail = f"The key {principal.name} may ask for work {permit.quota} times in {WINDOW} seconds."
            raise _quota(permit).refusal(detail, again_in=permit.next_in)
        return permit


def _quota(permit: Permit) -> Quota:
    return Quota("work", permit.quota, permit.left, window=WINDOW, back_in=permit.refilled_in)


def _telling(permit: Permit, send: Send) -> Send:
    async def send_told(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _quota(permit).fields().items():
                headers.append(name, value)  # beside those of another limit that may have been reached
        await send(message)

    return send_told


async def principal(request: Request) -> Principal:
    """Who sent this request."""
    return cast("Principal", request.state.principal)


UsePrincipal = Annotated[Principal, Depends(principal)]


router = APIRouter(tags=["operations"], route_class=JSONRoute)


class NewTicket(BaseModel):
    """What a ticket is wanted for."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(
        description="The stream that it will open.",
        pattern=r"^/[A-Za-z0-9/_-]*/events$",
        max_length=255,
        examples=["/runs/4fXz8yqYvVYqzV3mJr1cWw/events"],
    )


class Ticket(BaseModel):
    """Opens one stream, for a while; an open stream stays open."""

    ticket: str = Field(description="The ticket.", examples=["WzE3NjQ.5f2c"])
    href: str = Field(
        description="The stream with its ticket.", examples=["/runs/4f/events?ticket=WzE3NjQ.5f2c"]
    )
    seconds: int = Field(description="How long it opens the stream.", examples=[tickets.SECONDS])


@router.post(
    "/tickets",
    status_code=201,
    summary="Get a ticket for a stream",
    response_model=Ticket,
    responses=problems(*JSON_BODY),
)
def ticket(body: NewTicket, request: Request, holder: UsePrincipal) -> Response:
    """For browsers, whose EventSource cannot send a key: the ticket goes into the address of one stream.

    It is refused everywhere else, and lets one see no more than the key that it was got with.
    """
    issued: Any = request.app.state.tickets.issue(holder.name or "", body.path)
    href = f"{body.path}?{urlencode({'ticket': issued})}"
    return json_response({"ticket": issued, "href": href, "seconds": tickets.SECONDS}, 201)
