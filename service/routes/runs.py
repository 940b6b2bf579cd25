"""Training runs: asked for, watched, stopped."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Body, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from ntkengine.dynamics import RunSpec
from ntkengine.experiments import EXPERIMENTS
from ntkengine.spec import from_jsonable, to_jsonable
from service.errors import MOST_OFFENCES, Offence, ServiceError, invalid, shortened
from service.routes.body import JSONRoute
from service.routes.documentation import JSON_OR_FORM, problems
from service.routes.forms import Files, arrays, form_documentation, weights
from service.routes.jobs import JobId, UsePriority, add_job_routes
from service.routes.models import RunEstimate, RunList, RunSummary, RunView
from service.routes.responses import json_response
from service.routes.services import UseServices
from service.routes.views import full, summary
from service.runs.kinds import RUN
from service.runs.manager import Priority, Window
from service.runs.states import Status


class RunRoute(JSONRoute):
    """Runs: data and initial weights may be files."""

    files: ClassVar[Files] = {
        **arrays("/data/x", "/data/y", "/data/x_test", "/data/y_test"),
        **weights("/weights"),
    }


router = APIRouter(prefix="/runs", tags=["runs"], route_class=RunRoute)

MOST_POINTS = 2000


class ExperimentRun(BaseModel):
    """An experiment of the catalogue, perhaps changed."""

    model_config = ConfigDict(extra="forbid")

    experiment: str = Field(description="Name of the experiment; GET /experiments lists them.")
    overrides: dict[str, Any] = Field(
        default={},
        description="What to change in its spec: a merge patch (RFC 7396), in which null removes a key.",
        examples=[{"training": {"learning_rate": 0.01}}],
    )


def _form(body: Any) -> str:
    return "named experiment" if hasattr(body, "keys") and "experiment" in body else "spec"


NewRun = Annotated[
    Annotated[RunSpec, Tag("spec")] | Annotated[ExperimentRun, Tag("named experiment")], Discriminator(_form)
]

EXAMPLES: Any = {
    "experiment": {
        "summary": "An experiment of the catalogue",
        "value": {"experiment": next(iter(EXPERIMENTS)), "overrides": {"record": [{"what": "loss"}]}},
    },
    "spec": {
        "summary": "The quadratic network of the notes",
        "value": {
            "model": {"layers": [{"kind": "dense", "width": 10, "b_std": 1.0}, {"kind": "quadratic"},
                                 {"kind": "dense", "width": 1}]},
            "data": {"x": [[1.0], [-1.0]], "y": [[1.0], [1.0]], "x_test": [[0.5]]},
            "training": {"kind": "gradient_descent", "learning_rate": 0.001, "steps": 5000},
            "record": [{"what": "loss"}, {"what": "kernel", "schedule": {"kind": "every", "steps": 50}}],
        },
    },
}  # fmt: skip
IN_FORM = {name: value for name, value in EXAMPLES["spec"]["value"].items() if name != "data"}


@router.post(
    "",
    status_code=202,
    summary="Start a training run",
    response_model=RunSummary,
    responses={
        202: {"headers": {"Location": {"description": "The run.", "schema": {"type": "string"}}}},
        **problems(*JSON_OR_FORM, "key-reused"),
    },
    openapi_extra=form_documentation(RunRoute.files, IN_FORM),
)
def create(
    body: Annotated[NewRun, Body(openapi_examples=EXAMPLES)],
    parts: UseServices,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=255,
               description="Repeating a request with its key returns the run that the first one started."),
    ] = None,
    priority: UsePriority = Priority.NORMAL,
) -> Response:  # fmt: skip
    """Queue a run; it starts when a process is free, and survives crashes of its process and the server."""
    spec, experiment = _resolve(body)
    run = summary(
        parts.jobs[RUN.name].submit(spec, experiment=experiment, key=idempotency_key, priority=priority)
    )
    return json_response(run, 202, {"Location": run["links"]["self"]})


@router.post(
    "/estimate",
    summary="Estimate the cost of a run",
    response_model=RunEstimate,
    responses=problems(*JSON_OR_FORM),
    openapi_extra=form_documentation(RunRoute.files, IN_FORM),
)
def cost(body: Annotated[NewRun, Body(openapi_examples=EXAMPLES)], parts: UseServices) -> Response:
    """Points, operations and memory of a run that would be accepted, without starting it."""
    spec, _ = _resolve(body)
    RUN.check(spec, parts.settings)
    return json_response(spec.plan())


def _resolve(body: RunSpec | ExperimentRun) -> tuple[RunSpec, str | None]:
    if not isinstance(body, ExperimentRun):
        return body, None
    experiment = EXPERIMENTS.get(body.experiment)
    if experiment is None:
        hint = f"Use one of {', '.join(EXPERIMENTS)}."
        wrong = Offence(
            pointer="/experiment", detail="There is no such experiment.", got=body.experiment, hint=hint
        )
        raise ServiceError("invalid", f"There is no experiment {body.experiment!r}.", offences=[wrong])
    merged = _merge_patch(to_jsonable(experiment.spec), body.overrides)
    try:
        return from_jsonable(RunSpec, merged), body.experiment
    except ValidationError as error:
        located = [{**e, "loc": ("body", "overrides", *e["loc"])} for e in error.errors()]
        raise invalid(located, {"overrides": merged}) from None


def _merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not hasattr(patch, "items"):
        return patch
    merged = dict(target) if hasattr(target, "items") else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_patch(merged.get(key), value)
    return merged


@router.get("", summary="List runs", response_model=RunList, responses=problems("invalid"))
def list_runs(
    parts: UseServices,
    status: Annotated[Status | None, Query(description="Only runs with this status.")] = None,
    experiment: Annotated[str | None, Query(description="Only runs of this experiment.")] = None,
    order: Annotated[Literal["newest", "oldest"], Query(description="Which come first.")] = "newest",
    cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Most runs of a page.")] = 50,
) -> Response:
    """Runs, page by page; a run that is added meanwhile never moves others between pages."""
    wanted = {"status": status, "experiment": experiment}
    filters = {name: value for name, value in wanted.items() if value is not None}
    page = parts.jobs[RUN.name].page(filters, order, cursor, limit)
    return json_response({"runs": [summary(row) for row in page.rows], "next": page.next_cursor})


@router.get(
    "/{job_id}", summary="Show a run", response_model=RunView, responses=problems("not-found", "invalid")
)
def show(
    job_id: JobId,
    parts: UseServices,
    fields: Annotated[
        str | None, Query(description="Quantities wanted, by commas; empty for none, left out for all.")
    ] = None,
    from_step: Annotated[int, Query(ge=0, description="First step wanted.")] = 0,
    every: Annotated[int, Query(ge=1, description="Give every n-th value only.")] = 1,
    max_points: Annotated[
        int, Query(ge=2, le=100_000, description="Most values of a quantity; above, they are evenly thinned.")
    ] = MOST_POINTS,
) -> Response:
    """A run's status, spec, progress, and what it has recorded so far."""
    runs = parts.jobs[RUN.name]
    run = runs.get(job_id)
    names = None if fields is None else [name for name in fields.split(",") if name]
    spec, series = runs.spec(job_id), runs.series(job_id, Window(names, from_step, every, max_points))
    _check_fields(names or [], {*series, *_promised(spec)})
    return json_response(full(run, spec, series, every))


def _promised(spec: Any) -> set[str]:
    """The names of the series that the run may come to record; for test data, where it has some."""
    return {entry["what"] + suffix for entry in spec["record"] for suffix in ("", "_test")}


def _check_fields(names: list[str], known: set[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        hint = f"This run records {', '.join(sorted(known))}."
        wrong = [Offence(pointer="fields", detail=f"The run records no {shortened(name)}.", hint=hint)
                 for name in unknown[:MOST_OFFENCES]]  # fmt: skip
        raise ServiceError("invalid", f"{len(unknown)} unknown in `fields`.", offences=wrong)


@router.get(
    "/{job_id}/arrays/{digest}",
    summary="Fetch a large recorded array",
    response_class=Response,
    responses={
        200: {"description": "The array as .npy.",
              "content": {"application/x-npy": {"schema": {"type": "string", "format": "binary"}}}},
        **problems("not-found", "invalid"),
    },
)  # fmt: skip
def array(
    job_id: JobId,
    digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="The digest that the event named.")],
    parts: UseServices,
) -> Response:
    """An array that was too large for an event."""
    headers = {"ETag": f'"{digest}"', "Cache-Control": "immutable"}
    return Response(parts.jobs[RUN.name].array(job_id, digest), 200, headers, "application/x-npy")


add_job_routes(router, RUN.name, summary, RunSummary)
