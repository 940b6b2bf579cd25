"""How requests end when the service stops: streams at once, the rest when it is done or out of time."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ServiceError
from service.routes.documentation import STREAMS
from service.routes.responses import problem_response

GRACE_SECONDS = 0.7
RETRY = b"retry: 1000\n\n"  # milliseconds after which a browser connects again
SSE = "text/event-stream"


class Departure:
    """Begins once; from then on nobody is served for long. Lives in the event loop."""

    def __init__(self) -> None:
        self._answers: set[Answer] = set()
        self._begun = False

    def begin(self) -> None:
        """Have all that is being answered come to its end."""
        self._begun = True
        for answer in self._answers:
            answer.hurry()

    def enter(self, answer: Answer) -> None:
        """An answer begins."""
        self._answers.add(answer)
        if self._begun:
            answer.hurry()

    def leave(self, answer: Answer) -> None:
        """An answer has ended."""
        self._answers.discard(answer)


class Answer:
    """One answer on its way out."""

    def __init__(self, send: Send, time: asyncio.Timeout) -> None:
        self._send = send
        self._time = time
        self._hurried = False
        self.media: str | None = None
        """What is being sent, once that has begun."""

    def hurry(self) -> None:
        """End soon: a stream now, for its reader can go on elsewhere."""
        self._hurried = True
        if not self._time.expired():
            patience = 0 if self.media in STREAMS else GRACE_SECONDS
            self._time.reschedule(asyncio.get_running_loop().time() + patience)

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer; a stream first tells its reader when to come back."""
        await self._send(message)
        if message["type"] != "http.response.start":
            return
        self.media = Headers(raw=message["headers"]).get("content-type", "").partition(";")[0]
        if self.media == SSE:
            await self._send({"type": "http.response.body", "body": RETRY, "more_body": True})
        if self._hurried:
            self.hurry()


class Leaving:
    """Ends answers in good order when the departure begins."""

    def __init__(self, app: ASGIApp, departure: Departure) -> None:
        self.app = app
        self._departure = departure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        time = asyncio.timeout(None)
        answer = Answer(send, time)
        try:
            async with time:
                self._departure.enter(answer)
                await self.app(scope, receive, answer.send)
        except TimeoutError:
            if not time.expired():
                raise
            await _break_off(answer, scope, receive, send)
        finally:
            self._departure.leave(answer)
        return None


async def _break_off(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    if answer.media is None:
        later = {"Retry-After": "1", "Connection": "close"}
        error = ServiceError("unavailable", "The service is being stopped.", headers=later)
        await problem_response(Request(scope), error)(scope, receive, send)
    elif answer.media in STREAMS:
        await send({"type": "http.response.body", "body": b""})
    # A file that was not sent whole must not look as if: the server closes the connection without the end.
