"""The one table from what went wrong to what the client is told (RFC 9457)."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, Field
from pydantic_core import ErrorDetails

from ntkengine.errors import EngineError
from ntkengine.pointers import along


class Kind(NamedTuple):
    """One kind of problem: its HTTP status, its title, and what to do when nobody knows better."""

    status: int
    title: str
    hint: str


SEE_DOCS = "The service's page /docs says what is taken, field by field."
LESS = "Ask for less, or have the operator raise the limit."

# Keys are stable: clients may rely on `urn:ntkengine:problem:<key>`.
KINDS: Mapping[str, Kind] = {
    "malformed": Kind(400, "The request cannot be read", "Send valid JSON encoded as UTF-8."),
    "unauthorized": Kind(401, "A key is needed",
                         "Send Authorization: Bearer KEY; the operator makes keys: ntk keys new NAME."),
    "forbidden": Kind(403, "The key does not allow this", "Ask the operator for a key that does."),
    "cross-site": Kind(403, "Pages of other sites may not send this",
                       "Use a program, or have the operator add the page's origin to NTK_CORS_ORIGINS."),
    "not-found": Kind(404, "There is nothing here", "Check the address; /docs lists what exists."),
    "method-not-allowed": Kind(405, "This address does not take that method", SEE_DOCS),
    "not-acceptable": Kind(406, "No representation that was asked for exists", "Change the Accept header."),
    "cancelled": Kind(409, "The work was cancelled", "Start it again."),
    "already-ended": Kind(409, "The run has already ended", "Nothing is left to stop; DELETE forgets it."),
    "not-ready": Kind(409, "What was asked for is not computed yet",
                      "Ask again later, or for the rows that are ready."),
    "name-taken": Kind(409, "Another data set has this name", "Choose another name, or DELETE that one."),
    "too-large": Kind(413, "The request is too large", LESS),
    "unsupported-media-type": Kind(415, "The body has a type this endpoint does not read",
                                   "Send JSON with Content-Type: application/json."),
    "wrong-host": Kind(421, "The service does not answer to this name",
                       "Use an address that `ntk serve` prints, or have NTK_ALLOWED_HOSTS extended."),
    "invalid": Kind(422, "The request contradicts itself or the documentation", SEE_DOCS),
    "unsupported": Kind(422, "There is no rule for what was asked", SEE_DOCS),
    "too-costly": Kind(422, "The work is over a limit", LESS),
    "numerical": Kind(422, "The computation left the range of numbers", "Use smaller scales, or float64."),
    "key-reused": Kind(422, "The idempotency key belongs to another request",
                       "Use a new key for a new request, or send the first request unchanged."),
    "too-many-requests": Kind(429, "The key's limit is reached", "Wait as long as Retry-After says."),
    "internal": Kind(500, "The service failed", "Try again; if it persists, report the request id."),
    "worker-died": Kind(500, "The process that computed the answer died",
                        "Try again, or ask for less: it may have run out of memory."),
    "insufficient-storage": Kind(507, "The disk has too little room",
                                 "Delete jobs that are not needed, or ask for less."),
    "unavailable": Kind(503, "The service cannot work now", "Try again in a few seconds."),
}  # fmt: skip

BY_STATUS: Mapping[int, str] = {
    400: "malformed", 404: "not-found", 405: "method-not-allowed", 406: "not-acceptable", 413: "too-large",
    415: "unsupported-media-type", 422: "invalid", 503: "unavailable",
}  # fmt: skip

HINTS: Mapping[str, str] = {
    "missing": "Add this key.",
    "missing_argument": "Add this key.",
    "extra_forbidden": "Remove this key, or correct its spelling.",
    "unexpected_keyword_argument": "Remove this key, or correct its spelling.",
    "union_tag_invalid": "Use one of the kinds listed.",
    "union_tag_not_found": "Add the key `kind`.",
    "dataclass_type": 'Write an object with its `kind`, such as {"kind": "ntk"} or {"kind": "relu"}.',
    "model_attributes_type": 'Write an object with its `kind`, such as {"kind": "ntk"} or {"kind": "relu"}.',
    "finite_number": "Use a finite number.",
}
LAST_IS_A_KEY = {"missing", "missing_argument", "extra_forbidden", "unexpected_keyword_argument"}


class Offence(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(
        description="Where: an RFC 6901 JSON pointer into the request body, or the name of a parameter "
        "or of a part of the form.",
        examples=["/model/layers/0/width"],
    )
    detail: str = Field(description="What is wrong.", examples=["Input should be greater than or equal to 1"])
    expected: str | None = Field(default=None, description="What was expected.", examples=["ge: 1"])
    got: str | None = Field(default=None, description="What was sent, shortened.", examples=["-3"])
    hint: str = Field(description="What to do.", examples=["Use a positive width."])


class Problem(BaseModel):
    """Why a request was not answered with success (RFC 9457, `application/problem+json`)."""

    type: str = Field(
        description="Stable name of the kind of problem.", examples=["urn:ntkengine:problem:invalid"]
    )
    title: str = Field(description="The kind of problem, in words.", examples=[KINDS["invalid"].title])
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(
        description="What happened this time.", examples=["1 field is wrong: /model/layers/0/width"]
    )
    hint: str = Field(description="What to do.", examples=["Use a positive width."])
    instance: str = Field(description="The request's id, to find it in the logs.", examples=["c2f1e0a9"])
    errors: list[Offence] = Field(default=[], description="Each thing that is wrong with the request.")
    estimate: dict[str, Any] | None = Field(
        default=None, description="too-costly: what the work would cost.", examples=[{"flops": 1e13}]
    )
    limit: dict[str, Any] | None = Field(
        default=None,
        description="too-costly, too-many-requests: the limits it is over.",
        examples=[{"flops": 2e11}],
    )
    ready: list[list[int]] | None = Field(
        default=None, description="not-ready: the rows [from, to) that can be read.", examples=[[[0, 1000]]]
    )
    used: dict[str, Any] | None = Field(
        default=None,
        description="too-many-requests: what the key has of what is limited.",
        examples=[{"compute_seconds": 3605.2}],
    )
    again_at: str | None = Field(
        default=None,
        description="too-many-requests: when there is more of it, if that is known.",
        examples=["2026-01-02T00:00:00.000000Z"],
    )
    checks: dict[str, Any] | None = Field(
        default=None, description="unavailable: what is and is not ready.", examples=[{"disk": "ok"}]
    )


class ServiceError(Exception):
    """A problem of kind `kind` (a key of `KINDS`); `extra` fills further fields of `Problem`."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        hint: str | None = None,
        offences: Sequence[Offence] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.hint = hint
        self.offences = offences
        self.headers = headers
        self.extra = extra

    def problem(self, instance: str) -> Problem:
        """What the client is told."""
        kind = KINDS[self.kind]
        return Problem(
            type=f"urn:ntkengine:problem:{self.kind}",
            title=kind.title,
            status=kind.status,
            detail=self.detail,
            hint=self.hint or (self.offences[0].hint if self.offences else kind.hint),
            instance=instance,
            errors=list(self.offences),
            **self.extra,
        )


def from_engine(error: EngineError) -> ServiceError:
    """An engine's error, raised in this process."""
    return from_parts({"category": error.category, "detail": str(error), **vars(error)})


def from_parts(parts: Mapping[str, Any]) -> ServiceError:
    """An engine's error as a computing process reports it: category, detail, pointer, hint, ..."""
    kind = parts["category"].replace("_", "-")
    kind = kind if kind in KINDS else "internal"
    hint = parts.get("hint") or KINDS[kind].hint
    pointer = parts.get("pointer")
    offences = [] if pointer is None else [Offence(pointer=pointer, detail=parts["detail"], hint=hint)]
    extra = {name: parts[name] for name in ("estimate", "limit") if parts.get(name) is not None}
    return ServiceError(kind, parts["detail"], hint=hint, offences=offences, **extra)


MOST_OFFENCES = 20  # told of one request


def invalid(errors: Iterable[ErrorDetails | Mapping[str, Any]], body: Any) -> ServiceError:
    """What validation found wrong with `body`; each location begins with the part of the request it is in."""
    told = list(errors)
    # A list whose items are wrong is then also said to be too short.
    real = [error for error in told if not (error["type"] == "too_short" and _has_inner(error, told))]
    # A plain union complains once per member: the same thing is said once.
    found = {(o.pointer, o.detail): o for o in (_offence(error, body) for error in real)}
    offences = list(found.values())[:MOST_OFFENCES]
    places = ", ".join(dict.fromkeys(o.pointer or "the body" for o in offences))
    return ServiceError("invalid", f"{len(found)} wrong: {places}", offences=offences)


def _has_inner(
    outer: ErrorDetails | Mapping[str, Any], errors: Iterable[ErrorDetails | Mapping[str, Any]]
) -> bool:
    place = outer["loc"]
    return any(len(error["loc"]) > len(place) and error["loc"][: len(place)] == place for error in errors)


def _offence(error: ErrorDetails | Mapping[str, Any], body: Any) -> Offence:
    part, *path = error["loc"]
    context = {name: value for name, value in error.get("ctx", {}).items() if name != "error"}
    return Offence(
        pointer=along(body, path, ends_in_a_key=error["type"] in LAST_IS_A_KEY)
        if part == "body"
        else ".".join(map(str, error["loc"][1:])),
        detail=error["msg"],
        expected=", ".join(f"{name}: {value}" for name, value in context.items()) or None,
        got=None if error["type"] in LAST_IS_A_KEY - {"extra_forbidden"} else shortened(error.get("input")),
        hint=HINTS.get(error["type"], SEE_DOCS),
    )


def shortened(value: Any) -> str:
    """The value in Python's words, at most 80 characters of them."""
    text = reprlib.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
