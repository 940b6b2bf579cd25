"""Sweeps: asked for, watched, read as a table that grows."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Body, Header, Query, Response
from pydantic import Field

from ntkengine.sweeps import SweepSpec
from service.routes import views
from service.routes.body import JSONRoute
from service.routes.documentation import JSON_OR_FORM, problems
from service.routes.forms import Files, arrays, form_documentation, weights
from service.routes.jobs import JobId, UsePriority, add_job_routes
from service.routes.models import Answer, Job, Links
from service.routes.responses import json_response
from service.routes.services import UseServices
from service.runs.kinds import SWEEP
from service.runs.manager import Jobs, Priority, Window
from service.runs.states import Status
from service.runs.sweep_child import ROW
from service.runs.sweeps import FORMATS
from service.store.jobs import Row


class SweepRoute(JSONRoute):
    """Sweeps: data and initial weights of the run may be files."""

    files: ClassVar[Files] = {
        **arrays("/run/data/x", "/run/data/y", "/run/data/x_test", "/run/data/y_test"),
        **weights("/run/weights"),
    }


router = APIRouter(prefix=SWEEP.path, tags=["sweeps"], route_class=SweepRoute)

RUN: Any = {
    "model": {"layers": [{"kind": "dense", "width": 32, "b_std": 1.0}, {"kind": "quadratic"},
                         {"kind": "dense", "width": 1}]},
    "data": {"x": [[1.0], [-1.0]], "y": [[1.0], [1.0]], "x_test": [[0.5]], "y_test": [[1.0]]},
    "training": {"kind": "gradient_descent", "learning_rate": 0.02, "steps": 300,
                 "stop": {"loss_below": 1e-6}},
    "seeds": [0, 1, 2, 3, 4],
}  # fmt: skip
MEAN_FIELD = {"kind": "mean_field", "lr_scale": "width"}
EXAMPLES: Any = {
    "widths": {
        "summary": "How the change of the kernel depends on the width, in two parameterizations",
        "value": {
            "run": RUN,
            "axes": [
                {"field": "/model/parameterization", "values": [{"kind": "ntk"}, MEAN_FIELD]},
                {"field": "/model/layers/0/width", "values": [32, 128, 512]},
            ],
        },
    },
    "rates": {
        "summary": "Learning rates, and how far the network is from its linearization",
        "value": {
            "run": {**RUN, "record": [{"what": "linearized"}]},
            "axes": [{"field": "/training/learning_rate", "values": [0.01, 0.02, 0.04, 0.08]}],
        },
    },
}
IN_FORM = {
    **EXAMPLES["widths"]["value"],
    "run": {name: value for name, value in RUN.items() if name != "data"},
}


class Combinations(Answer):
    """Combinations of a sweep."""

    done: int = Field(description="How many are trained.", examples=[4])
    total: int = Field(description="How many there are.", examples=[6])


class SweepProgress(Answer):
    """How far a sweep is."""

    fraction: float = Field(description="Share of the work that is done.", examples=[0.25])
    combinations: Combinations = Field(description="The rows of its table.")
    crashes: int = Field(description="How often its process died and was replaced.", examples=[0])


class SweepLinks(Links):
    """Where to go on from a sweep."""

    export: str = Field(description="Its table as a file.", examples=["/sweeps/Q3VyaW9zaXR5/export"])


class SweepSummary(Job):
    """A sweep without its table."""

    kind: Literal["sweep"] = Field(description="Always `sweep`.", examples=["sweep"])
    progress: SweepProgress = Field(description="How far it is.")
    links: SweepLinks = Field(description="Addresses to go on from here.")
    axes: list[dict[str, Any]] = Field(
        description="What is varied.", examples=[[{"field": "/model/layers/0/width", "values": [32, 128]}]]
    )
    combine: Literal["grid", "zip"] = Field(description="How values are combined.", examples=["grid"])
    plan: dict[str, Any] = Field(
        description="What it was estimated to cost.", examples=[{"combinations": 6, "flops": 1e10}]
    )


class Measure(Answer):
    """A number of the members of a combination."""

    median: float = Field(description="Their median.", examples=[0.031])
    low: float | None = Field(
        description="Lower end of its 99 % bootstrap interval; null for one member.", examples=[0.025]
    )
    high: float | None = Field(description="Upper end.", examples=[0.04])


class SweepRow(Answer):
    """A combination of values, and what came of it. Measures are of the members that did not diverge."""

    index: int = Field(description="Number of the row, from 0.", examples=[0])
    values: list[Any] = Field(description="The values, an axis each.", examples=[[32, 0.05]])
    outcome: Literal["converged", "stopped", "diverged"] | None = Field(
        description="How training ended: diverged if any member did, converged if all did; null where it "
        "could not be computed.",
        examples=["stopped"],
    )
    members: int = Field(description="How many seeds, or sets of weights.", examples=[5])
    diverged: int = Field(description="How many of them diverged.", examples=[0])
    loss: Measure | None = Field(description="Training loss at the end.")
    loss_test: Measure | None = Field(description="Loss on the test points, if they have targets.")
    kernel_change: Measure | None = Field(description="`|Theta_T - Theta_0|_F / |Theta_0|_F`.")
    weight_change: Measure | None = Field(description="`|theta_T - theta_0| / |theta_0|`.")
    linearization_error: Measure | None = Field(
        description="`|f_T - f_lin,T| / |f_T - f_0|` on the training points, where `linearized` is recorded."
    )
    steps: Measure | None = Field(description="Steps until the end, of all members; null for a flow.")
    time: Measure | None = Field(description="Training time until the end, of all members.")
    error: str | None = Field(description="Why it could not be computed.", examples=[None])


class SweepExponent(Answer):
    """The `p` of `measure ~ value^p` in one axis."""

    of: str = Field(description="Which measure.", examples=["kernel_change"])
    field: str = Field(description="The axis.", examples=["/model/layers/0/width"])
    at: dict[str, Any] = Field(description="The values of the other axes.", examples=[{"/seed": 0}])
    slope: float = Field(description="The exponent.", examples=[-0.98])
    low: float | None = Field(
        description="Lower end of its 99 % bootstrap interval over members; null for one.", examples=[-1.1]
    )
    high: float | None = Field(description="Upper end.", examples=[-0.9])
    values: list[float] = Field(
        description="The values that it is fitted to: those where no member diverged.",
        examples=[[32, 128, 512]],
    )


class SweepTable(Answer):
    """The table as far as it is done."""

    axes: list[dict[str, Any]] = Field(description="The axes, in the order of a row's values.")
    rows: list[SweepRow] = Field(description="A row for each combination that is done.")
    exponents: list[SweepExponent] | None = Field(
        description="Exponents of the changes of kernel and weights and of the linearization error, in each "
        "axis of three or more positive numbers; null until all rows are there."
    )


class SweepJob(SweepSummary):
    """A sweep with its table."""

    result: SweepTable = Field(description="The table, which grows while the sweep runs.")


class SweepEstimate(Answer):
    """What a sweep would cost. Estimates, not measurements."""

    combinations: int = Field(description="Rows of the table.", examples=[6])
    flops: float = Field(description="Floating-point operations of training.", examples=[1e10])
    seconds: float = Field(description="Wall time on one ordinary core.", examples=[0.3])
    bytes: float = Field(description="Memory, of the largest combination.", examples=[4.0e6])
    bytes_kept: float = Field(description="What is kept of all of them.", examples=[2.4e4])


class SweepList(Answer):
    """A page of sweeps."""

    sweeps: list[SweepSummary] = Field(description="Sweeps, in the order asked for.")
    next: str | None = Field(description="`cursor` of the next page, if there is one.", examples=[None])


def summary(row: Row) -> dict[str, Any]:
    """A SweepSummary."""
    facts, counts = json.loads(row["facts"]), json.loads(row["counts"] or "null")
    common = views.job(row, SWEEP.path)
    nothing = {"combinations": {"done": 0, "total": facts["plan"]["combinations"]}}
    return {
        **common,
        "links": {**common["links"], "export": f"{common['links']['self']}/export"},
        "progress": {"fraction": row["progress"], "crashes": row["crashes"], **(counts or nothing)},
        **{name: facts[name] for name in ("axes", "combine", "plan")},
    }


def table(jobs: Jobs, row: Row) -> dict[str, Any]:
    """The SweepTable of a job."""
    axes, plan = (json.loads(row["facts"])[name] for name in ("axes", "plan"))
    every_row = Window([ROW], from_step=0, every=1, max_points=2 + plan["combinations"])
    found = jobs.series(row["id"], every_row).get(ROW)
    ended = json.loads(row["result"] or "null")
    return {
        "axes": axes,
        "rows": [] if found is None else found.values,
        "exponents": None if ended is None else ended["exponents"],
    }


@router.post(
    "",
    status_code=202,
    summary="Start a sweep",
    response_model=SweepSummary,
    responses={
        202: {"headers": {"Location": {"description": "The sweep.", "schema": {"type": "string"}}}},
        **problems(*JSON_OR_FORM, "key-reused"),
    },
    openapi_extra=form_documentation(SweepRoute.files, IN_FORM),
)
def create(
    body: Annotated[SweepSpec, Body(openapi_examples=EXAMPLES)],
    parts: UseServices,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=255,
               description="Repeating a request with its key returns the sweep that the first one started."),
    ] = None,
    priority: UsePriority = Priority.NORMAL,
) -> Response:  # fmt: skip
    """Queue a sweep: a run is trained with every combination of some of its fields' values, and each is a row
    of one table. Every combination is checked before any is trained.
    """
    job = summary(parts.jobs[SWEEP.name].submit(body, key=idempotency_key, priority=priority))
    return json_response(job, 202, {"Location": job["links"]["self"]})


@router.post(
    "/estimate",
    summary="Estimate the cost of a sweep",
    response_model=SweepEstimate,
    responses=problems(*JSON_OR_FORM),
    openapi_extra=form_documentation(SweepRoute.files, IN_FORM),
)
def cost(body: Annotated[SweepSpec, Body(openapi_examples=EXAMPLES)], parts: UseServices) -> Response:
    """Combinations, operations and memory of a sweep that would be accepted, without starting it."""
    SWEEP.check(body, parts.settings)
    return json_response(body.plan())


@router.get("", summary="List sweeps", response_model=SweepList, responses=problems("invalid"))
def list_sweeps(
    parts: UseServices,
    status: Annotated[Status | None, Query(description="Only sweeps with this status.")] = None,
    order: Annotated[Literal["newest", "oldest"], Query(description="Which come first.")] = "newest",
    cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Most sweeps of a page.")] = 50,
) -> Response:
    """Sweeps, page by page."""
    filters = {} if status is None else {"status": str(status)}
    page = parts.jobs[SWEEP.name].page(filters, order, cursor, limit)
    return json_response({"sweeps": [summary(row) for row in page.rows], "next": page.next_cursor})


@router.get("/{job_id}", summary="Show a sweep", response_model=SweepJob, responses=problems("not-found"))
def show(job_id: JobId, parts: UseServices) -> Response:
    """Status, progress, the time left, and the table as far as it is done."""
    jobs = parts.jobs[SWEEP.name]
    row = jobs.get(job_id)
    return json_response({**summary(row), "result": table(jobs, row)})


@router.get(
    "/{job_id}/export",
    summary="Download a sweep",
    response_class=Response,
    responses={
        200: {
            "description": "The table as far as it is done.",
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "object"}},
            },
        },
        **problems("not-found", "invalid"),
    },
)
def export(
    job_id: JobId,
    parts: UseServices,
    form: Annotated[
        Literal["csv", "json"],
        Query(
            alias="format",
            description="`csv`: a row a combination, the axes by their pointers, then `kernel_change` (the "
            "median), `kernel_change_low`, `kernel_change_high`, ... `json`: the table with its exponents, "
            "and the `spec`.",
        ),
    ] = "csv",
) -> Response:
    """The table as a file."""
    jobs = parts.jobs[SWEEP.name]
    media, write = FORMATS[form]
    content = b"".join(write(table(jobs, jobs.get(job_id)), jobs.spec(job_id)))
    headers = {"Content-Disposition": f'attachment; filename="sweep-{job_id}.{form}"'}
    return Response(content, 200, headers, media)


add_job_routes(router, SWEEP.name, summary, SweepSummary)
