"""What the OpenAPI document says beyond the handlers' own words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from service.errors import KINDS, Problem

Responses = dict[int | str, dict[str, Any]]

PROBLEM_JSON = "application/problem+json"
STREAMS = {"text/event-stream", "application/x-ndjson"}
TEXT = {"type": "string"}
# What can become of any request before its handler sees it.
ANYWHERE = (
    "unauthorized", "forbidden", "cross-site", "wrong-host", "too-many-requests", "internal", "unavailable",
)  # fmt: skip
KEYS = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key, where the service has keys."},
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "POST /tickets, for streams.",
    },
}


def problems(*kinds: str) -> Responses:
    """The `responses` of a handler that can end in these kinds of problem, and in those that all can."""
    by_status: dict[int, list[str]] = {}
    for kind in dict.fromkeys((*kinds, *ANYWHERE)):
        by_status.setdefault(KINDS[kind].status, []).append(f"`{kind}`: {KINDS[kind].title}.")
    return {status: {"model": Problem, "description": " ".join(said)} for status, said in by_status.items()}


JSON_BODY = (
    "malformed",
    "too-large",
    "unsupported-media-type",
    "invalid",
    "unsupported",
    "too-costly",
    "numerical",
)


JSON_OR_FORM = (*JSON_BODY, "cross-site")


def describe_answers(app: FastAPI) -> None:
    """Have the OpenAPI document tell of problems and streams as they really are."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            for path in document["paths"].values():
                for operation in path.values():
                    operation["responses"] = dict(_as_sent(operation["responses"]))
            for unsent in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(unsent, None)
            document["components"]["securitySchemes"] = KEYS
            document["security"] = [{}, {"key": []}, {"ticket": []}]
        return generate()

    app.openapi = openapi  # type: ignore[method-assign]


def _as_sent(responses: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The responses under the media types they have, without the framework's own that we never send."""
    for status, response in responses.items():
        content = response.get("content", {})
        if content.keys() >= STREAMS:
            schema = content["text/event-stream"]["schema"]
            item = {name: value for name, value in schema.items() if name != "type"}
            response["content"] = {media: {"schema": TEXT, "itemSchema": item} for media in STREAMS}
        if int(status) >= 400 and content:
            (body,) = content.values()
            if body["schema"].get("$ref", "").endswith("/HTTPValidationError"):
                continue
            response["content"] = {PROBLEM_JSON: body}
        yield status, response
