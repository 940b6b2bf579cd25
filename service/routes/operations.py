"""For those who operate the service."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from service.errors import ServiceError
from service.routes.documentation import problems
from service.routes.models import Health, Readiness, Version
from service.routes.responses import json_response
from service.routes.services import UseServices

router = APIRouter(tags=["operations"])

METRICS = {media: {"schema": {"type": "string"}} for media in ("text/plain", "application/openmetrics-text")}


@router.get("/healthz", summary="Is the process alive?", response_model=Health, responses=problems())
async def healthz() -> Response:
    """Answers as long as the process does."""
    return json_response({"status": "ok"})


@router.get("/readyz", summary="Can it work?", response_model=Readiness, responses=problems("unavailable"))
def readyz(parts: UseServices) -> Response:
    """Checks the database, the disk, and that a computing process is alive."""
    checks = parts.readiness()
    wrong = [name for name, state in checks.items() if state != "ok"]
    if wrong:
        raise ServiceError("unavailable", f"Not ready: {', '.join(wrong)}.", checks=checks)
    return json_response({"status": "ready", "checks": checks})


@router.get("/version", summary="What runs here?", response_model=Version, responses=problems())
async def version(parts: UseServices) -> Response:
    """Versions of the program and of its tables."""
    return json_response({"version": parts.version, "schema_version": parts.schema_version})


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "The metrics as text, or as OpenMetrics by Accept.", "content": METRICS},
        **problems(),
    },
)
def metrics(request: Request) -> Response:
    """Requests by route, method and status, and how long they took; points stored and how soon readers had
    them; crashes and recoveries; jobs by status, and how long the oldest waits; the process.

    Needs the scope `admin`. Each process of the service counts what it does itself; jobs are those of all.
    """
    encode, media = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.metrics.registry), media_type=media)
