"""A run as a file: everything for a paper's figure."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from service import arrow
from service.encoding import Array
from service.routes.documentation import problems
from service.routes.jobs import JobId
from service.routes.services import UseServices
from service.routes.views import full
from service.runs.export import FORMATS, Format, Recorded
from service.runs.kinds import RUN
from service.runs.manager import Jobs
from service.store.jobs import StoredEvent

router = APIRouter(prefix="/runs", tags=["runs"])

BINARY = {"schema": {"type": "string", "format": "binary"}}
CONTENT: Any = {
    "application/x-npz": BINARY,
    "text/csv": {"schema": {"type": "string"}},
    "application/json": {"schema": {"type": "object"}},
    arrow.PARQUET: BINARY,
}
NOT_ABOUT = {
    "links",
    "progress",
    "series",
    "spec",
    "seconds_left",
}  # what changes, and what has its own place


@router.get(
    "/{job_id}/export",
    summary="Download a run",
    response_class=Response,
    responses={
        200: {"description": "All that was recorded up to now.", "content": CONTENT},
        **problems("not-found", "invalid", "unsupported"),
    },
)
async def export(
    job_id: JobId,
    parts: UseServices,
    form: Annotated[
        Literal["npz", "csv", "parquet", "json"],
        Query(
            alias="format",
            description="`npz`: arrays `loss.step`, `loss.time`, `loss.value`, `slopes.value.measured`, ...; "
            "`about` and `spec` in JSON. `csv`: a row for each number, with its quantity, step, time "
            "and place i0, i1, ... in the quantity's array. `parquet`: the same table, with types. "
            "`json`: as `GET /runs/<id>`, but whole.",
        ),
    ] = "npz",
) -> Response:
    """Every point there is up to now, none left out, with large arrays in their places."""
    jobs = parts.jobs[RUN.name]
    run = await run_in_threadpool(jobs.get, job_id)
    chosen = FORMATS[form]
    if chosen.media == arrow.PARQUET:
        arrow.check_installed()
    recorded = Recorded(parts.settings.data_dir)
    take = partial(_take, recorded, jobs, job_id)
    async for batch in jobs.follow(job_id, -1, 0.0):
        if not batch:
            break  # it goes on
        await run_in_threadpool(take, batch)
    shown = full(run, await run_in_threadpool(jobs.spec, job_id), {}, 1)
    about = {name: value for name, value in shown.items() if name not in NOT_ABOUT}
    headers = {"Content-Disposition": f'attachment; filename="run-{job_id}.{form}"'}
    return StreamingResponse(_pieces(recorded, chosen, about, shown["spec"]), 200, headers, chosen.media)


def _take(recorded: Recorded, jobs: Jobs, job_id: str, batch: list[StoredEvent]) -> None:
    for event in batch:
        if event.kind == "point":
            recorded.add(json.loads(event.text), partial(_load, jobs, job_id))


def _load(jobs: Jobs, job_id: str, reference: Any) -> Array:
    found: Array = np.load(io.BytesIO(jobs.array(job_id, reference["digest"])), allow_pickle=False)
    return found


def _pieces(recorded: Recorded, chosen: Format, about: Any, spec: Any) -> Iterator[bytes]:
    with recorded:
        yield from filter(None, chosen.write(recorded, about, spec))
