"""Large kernels: jobs that compute tiles on disk, readable in parts while they run."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from service.encoding import Array, npy
from service.errors import ServiceError
from service.routes import views
from service.routes.documentation import problems
from service.routes.jobs import JobId, add_job_routes
from service.routes.models import Answer, Job, Links
from service.routes.negotiation import negotiate
from service.routes.responses import json_response
from service.routes.services import UseServices
from service.runs.kinds import KERNEL
from service.runs.limits import check_json_size
from service.runs.slices import NpyStream, Slice, read, stored, zarr_path
from service.runs.states import Status

router = APIRouter(prefix="/kernels", tags=["kernels"])

JSON, NPY = "application/json", "application/x-npy"
BINARY = {"schema": {"type": "string", "format": "binary"}}


class KernelLinks(Links):
    """Where to go on from a large kernel."""

    data: str = Field(description="Any part of it.", examples=["/kernels/Q3VyaW9zaXR5/data"])
    preview: str = Field(description="All of it, small.", examples=["/kernels/Q3VyaW9zaXR5/preview"])
    zarr: str = Field(description="The same as a Zarr store.", examples=["/kernels/Q3VyaW9zaXR5/zarr"])


class Tiles(Answer):
    """Tiles of a large kernel; of a symmetric one, those on and above the diagonal."""

    done: int = Field(description="How many are computed.", examples=[12])
    total: int = Field(description="How many there are to compute.", examples=[36])
    shape: list[int] = Field(description="Rows and columns of a tile.", examples=[[1000, 1000]])
    grid: list[int] = Field(description="Rows and columns of tiles in the matrix.", examples=[[8, 8]])


class KernelProgress(Answer):
    """How far a large kernel is."""

    fraction: float = Field(description="Share of the tiles that are done.", examples=[0.25])
    tiles: Tiles | None = Field(description="The tiles; null until its process has begun.")
    crashes: int = Field(description="How often its process died and was replaced.", examples=[0])


class KernelJob(Job):
    """A large kernel: how it is computed, how far it is, and what is known of it in the end."""

    kind: Literal["kernel"] = Field(description="Always `kernel`.", examples=["kernel"])
    progress: KernelProgress = Field(description="How far it is.")
    links: KernelLinks = Field(description="Addresses to go on from here.")
    request: dict[str, Any] = Field(
        description="What was asked for; of arrays, the number of rows.", examples=[{"dtype": "float32"}]
    )
    shape: list[int] = Field(
        description="Rows, columns and, if there are several, numbers for each pair.", examples=[[8000, 8000]]
    )
    plan: dict[str, Any] = Field(
        description="How it is computed, and what that was estimated to cost.",
        examples=[{"implementation": "closed_form", "flops": 1.2e10, "disk_bytes": 2.56e8}],
    )
    result: dict[str, Any] | None = Field(
        description="As of `POST /kernel`: method, scaling, warnings, diagnostics; a digest of the content.",
        examples=[{"method": {"kind": "closed_form", "error_bound": 0.0, "stderr": None}}],
    )


class KernelList(Answer):
    """A page of large kernels."""

    kernels: list[KernelJob] = Field(description="Kernels, in the order asked for.")
    next: str | None = Field(description="`cursor` of the next page, if there is one.", examples=[None])


class KernelPart(Answer):
    """Some rows and columns of a kernel."""

    kernel: str = Field(description="Which kernel.", examples=["ntk"])
    rows: list[int] = Field(description="Rows [from, to).", examples=[[0, 2]])
    cols: list[int] = Field(description="Columns [from, to).", examples=[[0, 2]])
    shape: list[int] = Field(description="Shape of `value`.", examples=[[2, 2]])
    dtype: str = Field(description="Its precision.", examples=["float32"])
    value: Any = Field(
        description="The entries, null where a preview has none.", examples=[[[2.0, 0.5], [0.5, 2.0]]]
    )


KernelName = Annotated[
    Literal["ntk", "nngp"] | None, Query(description="Which kernel; left out, the NTK if it is there.")
]


@router.get("", summary="List large kernels", response_model=KernelList, responses=problems("invalid"))
def list_kernels(
    parts: UseServices,
    status: Annotated[Status | None, Query(description="Only kernels with this status.")] = None,
    order: Annotated[Literal["newest", "oldest"], Query(description="Which come first.")] = "newest",
    cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Most kernels of a page.")] = 50,
) -> Response:
    """Large kernels, page by page."""
    filters = {} if status is None else {"status": str(status)}
    page = parts.jobs[KERNEL.name].page(filters, order, cursor, limit)
    return json_response({"kernels": [views.kernel(row) for row in page.rows], "next": page.next_cursor})


@router.get(
    "/{job_id}", summary="Show a large kernel", response_model=KernelJob, responses=problems("not-found")
)
def show(job_id: JobId, parts: UseServices) -> Response:
    """Status, progress by tiles, the time left, the plan and, in the end, what is known of the kernel."""
    return json_response(views.kernel(parts.jobs[KERNEL.name].get(job_id)))


@router.get(
    "/{job_id}/data",
    summary="Read a part of a large kernel",
    response_model=KernelPart,
    responses={
        200: {"description": "The part; `application/x-npy` streams any size.", "content": {NPY: BINARY}},
        304: {"description": "It is what the client has: the part of If-None-Match."},
        **problems("not-found", "not-ready", "not-acceptable", "too-costly", "invalid"),
    },
)
def data(
    request: Request,
    job_id: JobId,
    parts: UseServices,
    rows: Annotated[str, Query(description="Rows a:b, from a to b - 1; all by default.")] = ":",
    cols: Annotated[str, Query(description="Columns a:b; all by default.")] = ":",
    kernel: KernelName = None,
) -> Response:
    """Any rows and columns that are computed, while others are not and after.

    What is computed never changes, so an ETag holds for as long as the job exists.
    """
    media = negotiate(request, [JSON, NPY])
    jobs = parts.jobs[KERNEL.name]
    wanted = Slice.of(json.loads(jobs.get(job_id)["facts"]), kernel, rows, cols)
    gram = stored(jobs.files(job_id), wanted)
    tag = _tag(job_id, str(wanted), media)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept"}
    if _knows(request, tag):
        return Response(status_code=304, headers=headers)
    if media == NPY:
        stream = NpyStream(gram, wanted)
        return StreamingResponse(stream, 200, headers | {"Content-Length": str(stream.length)}, NPY)
    numbers = wanted.shape[0] * wanted.shape[1] * int(np.prod(gram.array(wanted.kernel).shape[2:]))
    check_json_size(numbers, parts.settings)
    return json_response(_part(wanted, read(gram, wanted)), 200, headers)


def _part(wanted: Slice, values: Array) -> dict[str, Any]:
    return {
        "kernel": wanted.kernel,
        "rows": [wanted.rows.start, wanted.rows.stop],
        "cols": [wanted.columns.start, wanted.columns.stop],
        "shape": values.shape,
        "dtype": str(values.dtype),
        "value": values,
    }


def _tag(*parts: str) -> str:
    return f'"{hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]}"'


def _knows(request: Request, tag: str) -> bool:
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    return tag in known or "*" in known


@router.get(
    "/{job_id}/preview",
    summary="See a large kernel as a whole",
    response_model=KernelPart,
    responses={
        200: {"description": "At most 256 x 256 means; null, in .npy NaN, where tiles are missing.",
              "content": {NPY: BINARY}},
        **problems("not-found", "not-ready", "not-acceptable", "invalid"),
    },
)  # fmt: skip
def preview(request: Request, job_id: JobId, parts: UseServices, kernel: KernelName = None) -> Response:
    """Each entry is the mean of a rectangle of the kernel: a picture of it, also while it is computed."""
    media = negotiate(request, [JSON, NPY])
    jobs = parts.jobs[KERNEL.name]
    wanted = Slice.of(json.loads(jobs.get(job_id)["facts"]), kernel, ":", ":")
    try:
        saved = io.BytesIO(jobs.files(job_id).preview.read_bytes())
    except FileNotFoundError:
        raise ServiceError("not-ready", "Nothing is computed yet.", ready=[]) from None
    with np.load(saved, allow_pickle=False) as archive:
        means = archive[wanted.kernel]
    if media == NPY:
        return Response(npy(means), media_type=NPY)
    return json_response({**_part(wanted, means), "value": np.where(np.isnan(means), None, means)})


@router.head("/{job_id}/zarr/{key:path}", include_in_schema=False)
@router.get(
    "/{job_id}/zarr/{key:path}",
    summary="Read a large kernel as a Zarr store",
    response_class=Response,
    responses={
        200: {"description": "A chunk or the metadata of the Zarr v3 store.",
              "content": {"application/octet-stream": BINARY}},
        **problems("not-found"),
    },
)  # fmt: skip
def zarr(
    job_id: JobId,
    key: Annotated[str, Path(description="A key of the store.", examples=["zarr.json", "ntk/c.0.0"])],
    parts: UseServices,
) -> Response:
    """The store of tiles, read-only, for Zarr clients: open the address without a key as a v3 group.

    A chunk that is not computed yet is not found, and so reads as NaN.
    """
    jobs = parts.jobs[KERNEL.name]
    jobs.get(job_id)
    content = zarr_path(jobs.files(job_id), key).read_bytes()  # of a few MB: a chunk is read as a whole
    return Response(content, media_type="application/octet-stream")


add_job_routes(router, KERNEL.name, views.kernel, KernelJob)
