"""What the client raises."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Offence:
    """One thing that is wrong with a request."""

    pointer: str
    detail: str
    hint: str


class ProblemError(Exception):
    """An answer that is no success, as the service explains it (RFC 9457).

    Attributes:
        status: the HTTP status.
        type: stable name of the kind of problem, such as `urn:ntkengine:problem:invalid`.
        detail: what happened.
        hint: what to do.
        pointer: JSON pointer of the first field that is wrong, if there is one.
        offences: all that is wrong.
        tries: how often the request was sent, the last time to be refused.
        members: the whole problem, with `estimate` and `limit` where the work was too costly.
    """

    def __init__(self, status: int, members: dict[str, Any], tries: int = 1) -> None:
        self.status = status
        self.tries = tries
        self.members = members
        self.type = str(members.get("type", "about:blank"))
        self.detail = str(members.get("detail", ""))
        self.hint = str(members.get("hint", ""))
        self.offences = tuple(
            Offence(str(each.get("pointer", "")), str(each.get("detail", "")), str(each.get("hint", "")))
            for each in members.get("errors", [])
        )
        super().__init__(self.detail)

    @property
    def pointer(self) -> str | None:
        """Where the first thing is wrong."""
        return self.offences[0].pointer if self.offences else None

    def __str__(self) -> str:
        said = [f"{each.pointer}: {each.detail}" for each in self.offences]
        return "\n".join([self.detail, *said, self.hint]).strip()

    @classmethod
    def of(cls, answer: httpx.Response, tries: int = 1) -> ProblemError:
        """The problem of an answer whose body has been read; a proxy may answer in its own way."""
        try:
            members = json.loads(answer.content)
            found = dict(members)
        except (TypeError, ValueError):
            said = f"{answer.request.method} {answer.url}: {answer.status_code} {answer.reason_phrase}"
            found = {"detail": said, "hint": "Is this the address of the service?"}
        return cls(answer.status_code, found, tries)


class ConnectionLost(Exception):
    """The service could not be reached, for as long as the client was told to try."""

    def __init__(self, url: str, cause: Exception) -> None:
        super().__init__(f"{url} does not answer: {cause}")
        self.url = url
