"""Data sets: added once, named in any request where an array belongs."""

from __future__ import annotations

from email.message import Message as Label
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from pydantic import Field

from ntkengine.data import NAME
from ntkengine.datasets import BUILT_IN
from service.errors import ServiceError
from service.routes.body import limited
from service.routes.documentation import problems
from service.routes.models import Answer
from service.routes.responses import json_response
from service.routes.services import UseServices
from service.runs.dataset_files import ARROW, ARROW_FILE, CSV, NPZ
from service.store.datasets import About

router = APIRouter(prefix="/datasets", tags=["data sets"])

BINARY = {"schema": {"type": "string", "format": "binary"}}
TYPES = {"application/zip": NPZ, **{media: media for media in (CSV, NPZ, ARROW, ARROW_FILE)}}
NEW_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
ANYWAY = ("worker-died", "unavailable", "insufficient-storage")


class DatasetLinks(Answer):
    """Where to go on from a data set."""

    self: str = Field(description="The data set.", examples=["/datasets/wine"])


class DatasetView(Answer):
    """A data set, and what its arrays are."""

    name: str = Field(description="Its name in requests.", examples=["wine"])
    reference: str = Field(
        description="Its name with what it holds, as the specs of jobs have it.",
        examples=["wine~9f86d081884c7d65"],
    )
    splits: dict[str, dict[str, list[int]]] = Field(
        description="By split, `train` and perhaps `test`, the shapes of inputs `x` and targets `y`.",
        examples=[{"train": {"x": [142, 13], "y": [142, 3]}, "test": {"x": [36, 13], "y": [36, 3]}}],
    )
    bytes: int = Field(description="What it takes of the disk.", examples=[22_784])
    created_at: str = Field(description="When it was added.", examples=["2026-01-01T12:00:00.000000Z"])
    links: DatasetLinks = Field(description="Addresses to go on from here.")


class DatasetList(Answer):
    """Data sets."""

    built_in: list[str] = Field(description="Those that are always there.", examples=[["digits"]])
    datasets: list[DatasetView] = Field(description="Those that were added, oldest first.")


def view(about: About) -> dict[str, Any]:
    """A DatasetView."""
    shown = {name: about[name] for name in ("name", "reference", "splits", "bytes", "created_at")}
    return {**shown, "links": {"self": f"{router.prefix}/{about['name']}"}}


@router.post(
    "",
    status_code=201,
    summary="Add a data set",
    response_model=DatasetView,
    responses={
        201: {"headers": {"Location": {"description": "The data set.", "schema": {"type": "string"}}}},
        **problems("unsupported-media-type", "too-large", "invalid", "unsupported", "too-costly",
                   "name-taken", *ANYWAY),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "`text/csv`: a line with the names of columns, then rows of numbers. "
            "`application/x-npz`: arrays x (n, ...) and perhaps y (n, k), x_test, y_test, of numpy.savez. "
            "`application/vnd.apache.arrow.stream` or `.file`: columns of numbers, of lists of equal length "
            "or of tensors.",
            "content": {
                CSV: {"schema": {"type": "string"}, "example": "a,b,label\n0.5,1.0,0\n-0.5,2.0,1\n"},
                NPZ: BINARY, ARROW: BINARY, ARROW_FILE: BINARY,
            },
        }
    },
)  # fmt: skip
async def add(
    request: Request,
    parts: UseServices,
    name: Annotated[
        str, Query(pattern=NEW_NAME, description="What requests are to call it.", examples=["wine"])
    ],
    y: Annotated[
        str, Query(max_length=10_000, description="Columns that are targets, by commas; others are inputs.",
                   examples=["label"]),
    ] = "",
    one_hot: Annotated[
        bool, Query(description="Whether y is one label: 1 - 1/k at its place of k, else -1/k.")
    ] = False,
    test_rows: Annotated[
        int, Query(ge=0, le=10**9, description="How many of the last rows are the split `test`.")
    ] = 0,
) -> Response:  # fmt: skip
    """Keep a table or arrays for later requests: `{"kind": "dataset", "name": "wine", "split": "train"}`.

    It is streamed to disk and read by a computing process. A data set never changes; adding the same again
    leads to the one that is there.
    """
    how = {
        "media": _media(request),
        "y": [column.strip() for column in y.split(",") if column.strip()],
        "one_hot": one_hot,
        "test_rows": test_rows,
    }
    announced = request.headers.get("content-length", "")
    pieces = limited(request, parts.settings.max_dataset_bytes).stream()
    about = await parts.datasets.add(name, pieces, int(announced) if announced.isdecimal() else 0, how)
    return json_response(view(about), 201, {"Location": f"{router.prefix}/{name}"})


def _media(request: Request) -> str:
    label = Label()
    label["content-type"] = sent = request.headers.get("content-type", "")
    if (media := TYPES.get(label.get_content_type())) is None or not sent:
        hint = f"Label it as one of {', '.join(TYPES)}: curl -H 'Content-Type: {CSV}' --data-binary @file."
        raise ServiceError("unsupported-media-type", f"A data set is not {sent or 'unlabelled'}.", hint=hint)
    return media


@router.get("", summary="List data sets", response_model=DatasetList, responses=problems())
def list_datasets(parts: UseServices) -> Response:
    """The data sets that requests can name."""
    return json_response(
        {"built_in": list(BUILT_IN), "datasets": [view(about) for about in parts.datasets.all()]}
    )


Name = Annotated[str, InPath(description="Its name or reference.", pattern=NAME, examples=["wine"])]


@router.get(
    "/{name}",
    summary="Show a data set",
    response_model=DatasetView,
    responses=problems("not-found", "invalid"),
)
def show(name: Name, parts: UseServices) -> Response:
    """Its splits, with the shapes of their arrays."""
    return json_response(view(parts.datasets.get(name)))


@router.delete(
    "/{name}", status_code=204, summary="Remove a data set", responses=problems("not-found", "invalid")
)
def delete(name: Name, parts: UseServices) -> Response:
    """Remove it from the disk. A job that needs it and has not ended fails, and says so."""
    parts.datasets.delete(name)
    return Response(status_code=204)
