"""What can be done with jobs of any kind: watch, stop, forget. A kind's own module adds how one is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from service.metrics import Metrics
from service.routes.documentation import problems
from service.routes.models import JOB_ID
from service.routes.negotiation import negotiate
from service.routes.responses import json_response
from service.routes.services import UseServices
from service.runs.clock import now, seconds_since
from service.runs.events import JobEvent
from service.runs.manager import Priority
from service.store.jobs import Row, StoredEvent

SSE, NDJSON = "text/event-stream", "application/x-ndjson"
PING_SECONDS = 15.0

Batches = AsyncIterator[list[StoredEvent]]

JobId = Annotated[str, Path(description="The job's id.", examples=[JOB_ID])]

UsePriority = Annotated[
    Priority,
    Query(description="Which queued jobs begin first; among equals, those of keys that have fewer jobs."),
]


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = SSE


def add_job_routes(
    router: APIRouter, kind: str, view: Callable[[Row], dict[str, Any]], model: type[BaseModel]
) -> None:
    """Give a kind's router the addresses `/{job_id}/events`, `/{job_id}/cancel` and DELETE `/{job_id}`."""

    @router.get(
        "/{job_id}/events",
        name=f"{kind}_events",
        summary=f"Watch a {kind}",
        response_class=EventStream,
        responses={
            200: {
                "description": "The events as they come, until the job ends. An SSE id is the event's `seq`.",
                "model": JobEvent,
                "content": {NDJSON: {"schema": {"type": "string"}}},
            },
            204: {"description": "The job has ended and nothing follows: do not connect again."},
            **problems("not-found", "not-acceptable", "invalid"),
        },
    )
    async def events(
        request: Request,
        job_id: JobId,
        parts: UseServices,
        after: Annotated[
            int | None,
            Query(ge=-1, description="Give what follows this `seq`; left out or -1: from the first event."),
        ] = None,
        last_event_id: Annotated[
            int | None, Header(ge=-1, description="As `after`; browsers send it when they connect again.")
        ] = None,
    ) -> Response:
        """Everything that happens in a job, from its first event, whenever one joins.

        `started`, then any `point`s, one `progress` for each segment, at the end `finished`, `failed` or
        `cancelled`.
        """
        jobs = parts.jobs[kind]
        media = negotiate(request, [SSE, NDJSON])
        await run_in_threadpool(jobs.get, job_id)
        begin = last_event_id if last_event_id is not None else after if after is not None else -1
        if await run_in_threadpool(jobs.nothing_follows, job_id, begin):
            return Response(status_code=204)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        batches = _timed(jobs.follow(job_id, begin, PING_SECONDS), request.app.state.metrics)
        return StreamingResponse(_written(batches, *_WIRE[media]), 200, headers, media)

    @router.post(
        "/{job_id}/cancel",
        name=f"{kind}_cancel",
        summary=f"Stop a {kind}",
        response_model=model,
        responses=problems("not-found", "already-ended"),
    )
    def cancel(job_id: JobId, parts: UseServices) -> Response:
        """Stop a job at once, keeping what it recorded."""
        return json_response(view(parts.jobs[kind].cancel(job_id)))

    @router.delete(
        "/{job_id}",
        name=f"{kind}_delete",
        status_code=204,
        summary=f"Stop and forget a {kind}",
        responses=problems("not-found"),
    )
    def delete(job_id: JobId, parts: UseServices) -> Response:
        """Stop a job if it has not ended, and remove all that it recorded."""
        parts.jobs[kind].delete(job_id)
        return Response(status_code=204)


async def _timed(batches: Batches, metrics: Metrics) -> Batches:
    """The same, measuring how late those are for which the reader was waiting, not what was there already."""
    waiting_since = now()
    async for batch in batches:
        if batch and batch[-1].at >= waiting_since:
            metrics.lag.observe(seconds_since(batch[-1].at))
        yield batch
        waiting_since = now()


async def _written(batches: Batches, line: Any, idle: bytes) -> AsyncIterator[bytes]:
    async for batch in batches:
        yield b"".join(line(event) for event in batch) or idle


def _sse(event: StoredEvent) -> bytes:
    return format_sse_event(data_str=event.text, event=event.kind, id=str(event.seq))


def _ndjson(event: StoredEvent) -> bytes:
    return event.text.encode() + b"\n"


_WIRE = {SSE: (_sse, KEEPALIVE_COMMENT), NDJSON: (_ndjson, b"\n")}
