"""Regime reports: asked for, watched, read."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Body, Header, Query, Response
from pydantic import Field

from ntkengine.regime import RegimeSpec
from service.routes import views
from service.routes.body import JSONRoute
from service.routes.documentation import JSON_OR_FORM, problems
from service.routes.forms import Files, arrays, form_documentation
from service.routes.jobs import JobId, UsePriority, add_job_routes
from service.routes.models import Answer, Job, Links
from service.routes.responses import json_response
from service.routes.services import Services, UseServices
from service.runs.kinds import REGIME
from service.runs.manager import Priority
from service.runs.states import Status
from service.store.jobs import Row


class RegimeRoute(JSONRoute):
    """Regime reports: data may be files."""

    files: ClassVar[Files] = {**arrays("/data/x", "/data/y", "/data/x_test", "/data/y_test")}


router = APIRouter(prefix=REGIME.path, tags=["regime"], route_class=RegimeRoute)

EXAMPLES: Any = {
    "width": {
        "summary": "The quadratic network of the notes: lazy? and if not, how wide would it have to be?",
        "value": {
            "model": {"layers": [{"kind": "dense", "width": 32, "b_std": 1.0}, {"kind": "quadratic"},
                                 {"kind": "dense", "width": 1}]},
            "data": {"x": [[1.0], [-1.0]], "y": [[1.0], [1.0]], "x_test": [[0.5]], "y_test": [[1.0]]},
            "training": {"kind": "gradient_descent", "learning_rate": 0.01, "steps": 1500,
                         "stop": {"loss_below": 1e-6}},
            "seeds": 5,
            "advise": "width",
        },
    },
    "digits": {
        "summary": "Digits: 64 to 256 neurons, and how the change of the kernel depends on the width",
        "value": {
            "model": {"layers": [{"kind": "dense", "width": 64}, {"kind": "relu"},
                                 {"kind": "dense", "width": 10}]},
            "data": {"x": {"kind": "dataset", "name": "digits", "limit": 20},
                     "y": {"kind": "dataset", "name": "digits", "limit": 20},
                     "x_test": {"kind": "dataset", "name": "digits", "split": "test", "limit": 20},
                     "y_test": {"kind": "dataset", "name": "digits", "split": "test", "limit": 20}},
            "training": {"kind": "gradient_descent", "learning_rate": 0.05, "steps": 100},
            "widths": [64, 128, 256],
        },
    },
}  # fmt: skip
IN_FORM = {name: value for name, value in EXAMPLES["width"]["value"].items() if name != "data"}

RepeatKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Repeating a request with its key returns the job that the first one started.",
    ),
]
CREATED: Any = {
    202: {"headers": {"Location": {"description": "The report.", "schema": {"type": "string"}}}},
    **problems(*JSON_OR_FORM, "key-reused"),
}

REPORT = """The report, null until it is there.

`verdict`: `lazy`, `rich`, `between` or `undetermined`, as `definitions` and `thresholds` say; `reasons` in
sentences; `widths`: a row for each width, with medians over seeds and bootstrap intervals {median, low,
high} of the relative kernel change, `|f - f_lin| / |f_T - f_0|` on train and test, the kernel's velocity,
its alignment with the targets, CKA, the relative weight change, the share of the loss that was trained
away, and the test errors of network, linearized network and kernel; `exponents` in the width;
`learning_rate_limit`; `advice`, which was tried; `assumptions` of the theory, and for a network in a file
what each of those that do not hold contributes: how far restoring it alone moves the outputs, on train and
test, over how far training moved them."""


class RegimeProgress(Answer):
    """How far a report is."""

    fraction: float = Field(description="Share of the work that is done.", examples=[0.25])
    crashes: int = Field(description="How often its process died and was replaced.", examples=[0])


class RegimeJob(Job):
    """A regime report: what was asked, how far it is, and in the end the answer."""

    kind: Literal["regime"] = Field(description="Always `regime`.", examples=["regime"])
    progress: RegimeProgress = Field(description="How far it is.")
    links: Links = Field(description="Addresses to go on from here.")
    request: dict[str, Any] = Field(
        description="What was asked for, without the data.", examples=[{"seeds": 5, "advise": "width"}]
    )
    width: int | None = Field(
        description="The network's own width, of which the verdict is; null for a network in a file.",
        examples=[32],
    )
    widths: list[int] = Field(description="All widths that are compared.", examples=[[32, 64, 128]])
    plan: dict[str, Any] = Field(
        description="What it was estimated to cost.", examples=[{"cases": 3, "flops": 1e11, "bytes": 1e7}]
    )
    result: dict[str, Any] | None = Field(
        description=REPORT,
        examples=[{"verdict": "lazy", "reasons": ["The network is in the kernel regime on this data."]}],
    )


class RegimeEstimate(Answer):
    """What a report would cost. Estimates, not measurements."""

    cases: int = Field(description="Widths and scales at which networks are trained.", examples=[3])
    flops: float = Field(description="Floating-point operations.", examples=[1e11])
    seconds: float = Field(description="Wall time on one ordinary core.", examples=[3.3])
    bytes: float = Field(description="Memory.", examples=[1e7])


class RegimeList(Answer):
    """A page of regime reports."""

    reports: list[RegimeJob] = Field(description="Reports, in the order asked for.")
    next: str | None = Field(description="`cursor` of the next page, if there is one.", examples=[None])


def view(row: Row) -> dict[str, Any]:
    """A RegimeJob."""
    facts = json.loads(row["facts"])
    return {
        **views.job(row, REGIME.path),
        "progress": {"fraction": row["progress"], "crashes": row["crashes"]},
        **{name: facts[name] for name in ("request", "width", "widths", "plan")},
        "result": json.loads(row["result"] or "null"),
    }


@router.post(
    "",
    status_code=202,
    summary="Ask whether a network is in the kernel regime",
    response_model=RegimeJob,
    responses=CREATED,
    openapi_extra=form_documentation(RegimeRoute.files, IN_FORM),
)
def create(
    body: Annotated[RegimeSpec, Body(openapi_examples=EXAMPLES)],
    parts: UseServices,
    idempotency_key: RepeatKey = None,
    priority: UsePriority = Priority.NORMAL,
) -> Response:
    """Queue a report: several seeds of each width are trained, beside each its linearized network and the
    closed form of its kernel; the answer is a verdict with its reasons.
    """
    return queued(parts, body, idempotency_key, priority)


def queued(parts: Services, spec: Any, key: str | None, priority: Priority) -> Response:
    """The answer that a report is queued."""
    job = view(parts.jobs[REGIME.name].submit(spec, key=key, priority=priority))
    return json_response(job, 202, {"Location": job["links"]["self"]})


@router.post(
    "/estimate",
    summary="Estimate the cost of a regime report",
    response_model=RegimeEstimate,
    responses=problems(*JSON_OR_FORM),
    openapi_extra=form_documentation(RegimeRoute.files, IN_FORM),
)
def cost(body: Annotated[RegimeSpec, Body(openapi_examples=EXAMPLES)], parts: UseServices) -> Response:
    """Operations and memory of a report that would be accepted, without starting it."""
    REGIME.check(body, parts.settings)
    return json_response(body.plan())


@router.get("", summary="List regime reports", response_model=RegimeList, responses=problems("invalid"))
def list_reports(
    parts: UseServices,
    status: Annotated[Status | None, Query(description="Only reports with this status.")] = None,
    order: Annotated[Literal["newest", "oldest"], Query(description="Which come first.")] = "newest",
    cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Most reports of a page.")] = 50,
) -> Response:
    """Regime reports, page by page."""
    filters = {} if status is None else {"status": str(status)}
    page = parts.jobs[REGIME.name].page(filters, order, cursor, limit)
    return json_response({"reports": [view(row) for row in page.rows], "next": page.next_cursor})


@router.get(
    "/{job_id}", summary="Show a regime report", response_model=RegimeJob, responses=problems("not-found")
)
def show(job_id: JobId, parts: UseServices) -> Response:
    """Status, progress, the time left and, in the end, the report."""
    return json_response(view(parts.jobs[REGIME.name].get(job_id)))


add_job_routes(router, REGIME.name, view, RegimeJob)
