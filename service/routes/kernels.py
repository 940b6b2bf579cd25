"""Kernels: answered at once, or as a job where they are large."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Body, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from ntkengine.kernels import KernelSpec
from service import arrow
from service.encoding import Array, Message, npy, npz
from service.errors import ServiceError
from service.routes import views
from service.routes.body import JSONRoute
from service.routes.documentation import JSON_OR_FORM, problems
from service.routes.forms import Files, arrays, form_documentation, weights
from service.routes.jobs import UsePriority
from service.routes.kernel_jobs import KernelJob
from service.routes.negotiation import negotiate
from service.routes.responses import json_response
from service.routes.services import UseServices
from service.runs.kernel_plan import estimate
from service.runs.kinds import KERNEL
from service.runs.limits import check_json_size, is_quick
from service.runs.manager import Priority
from service.settings import Settings


class KernelRoute(JSONRoute):
    """Kernels: inputs and weights may be files."""

    files: ClassVar[Files] = {**arrays("/x1", "/x2"), **weights("/of/weights")}


router = APIRouter(tags=["kernels"], route_class=KernelRoute)

BINARY = {"schema": {"type": "string", "format": "binary"}}
JOB_HEADERS = {
    "Location": {"description": "The job.", "schema": {"type": "string"}},
    "Preference-Applied": {
        "description": "`respond-async`, if that was preferred.",
        "schema": {"type": "string"},
    },
}
JSON, NPY, NPZ = "application/json", "application/x-npy", "application/x-npz"
ARROW = arrow.STREAM

SMALL = 1024  # numbers that are written faster than a thread is found for it

EXAMPLE: Any = {
    "summary": "The quadratic network of the notes at infinite width",
    "value": {
        "model": {
            "parameterization": {"kind": "ntk"},
            "layers": [
                {"kind": "dense", "width": 1000, "W_law": {"kind": "uniform", "half_width": 1.0},
                 "b_std": 1.0, "b_law": {"kind": "uniform", "half_width": 0.5}},
                {"kind": "quadratic"},
                {"kind": "dense", "width": 1, "W_law": {"kind": "uniform", "half_width": 1.0}},
            ],
        },
        "x1": [[1.0], [-1.0]],
        "of": {"kind": "infinite", "get": ["ntk"]},
    },
}  # fmt: skip

IN_FORM: dict[str, Any] = {"model": EXAMPLE["value"]["model"], "of": {"kind": "infinite", "get": ["ntk"]}}


class KernelAnswer(BaseModel):
    """Kernel matrices, and how they were computed."""

    kernels: dict[str, Any] = Field(
        description="By name, `ntk` or `nngp`: nested lists of the shape below.",
        examples=[{"ntk": [[1.49, 0.157], [0.157, 1.49]]}],
    )
    shape: list[int] = Field(description="Shape of each kernel.", examples=[[2, 2]])
    dtype: str = Field(description="Precision of the computation.", examples=["float64"])
    outputs: str = Field(description="What is kept of a pair's k x k block.", examples=["mean"])
    method: dict[str, Any] = Field(
        description="How, with `error_bound` and, if it is random, `stderr`.",
        examples=[{"kind": "moments", "error_bound": 0.0, "stderr": None}],
    )
    plan: dict[str, Any] = Field(
        description="The implementation chosen, and its cost.",
        examples=[{"implementation": "closed_form", "flops": 1240.0, "bytes": 256}],
    )
    scaling: dict[str, Any] | None = Field(
        description="At infinite width: the power of the width whose coefficient "
        "this is, and whether the kernel stays constant in training.",
        examples=[{"width_power": 0, "constant_in_training": True}],
    )
    diagnostics: dict[str, Any] = Field(
        description="Symmetry, smallest eigenvalue, condition number, entries clipped.",
        examples=[{"symmetric": True, "lambda_min": 1.33, "condition_number": 1.24, "clipped": 0}],
    )
    warnings: list[str] = Field(description="What one should know before using the numbers.", examples=[[]])
    seconds: float = Field(description="Wall time of the computation.", examples=[0.004])


@router.post(
    "/kernel",
    summary="Compute a kernel",
    response_model=KernelAnswer,
    responses={
        200: {"description": "The kernels. `application/x-npy` holds the one kernel asked for, "
              "`application/x-npz` all by name, with the rest as JSON in `about`; an Arrow stream has a row "
              "for each row of x1, a column of tensors for each kernel, and `about` in its schema.",
              "content": {NPY: BINARY, NPZ: BINARY, ARROW: BINARY}},
        202: {"description": "A job computes it: it is too large to wait for, or that was preferred. "
              "While it exists, the same request leads to it again.",
              "model": KernelJob, "headers": JOB_HEADERS},
        **problems(*JSON_OR_FORM, "not-acceptable", "worker-died", "insufficient-storage", "unavailable"),
    },
    openapi_extra=form_documentation(KernelRoute.files, IN_FORM),
)  # fmt: skip
async def kernel(
    request: Request,
    spec: Annotated[KernelSpec, Body(openapi_examples={"quadratic": EXAMPLE})],
    parts: UseServices,
    prefer: Annotated[
        str,
        Header(
            description="`respond-async` has it computed as a job, if it can be.", examples=["respond-async"]
        ),
    ] = "",
    priority: UsePriority = Priority.NORMAL,
) -> Response:
    """The NNGP and neural tangent kernel of a network on data: at infinite width or of a finite network."""
    media = negotiate(request, [JSON, NPY, NPZ, ARROW])
    if media == ARROW:
        arrow.check_installed()
    preferred = "respond-async" in [each.strip().lower() for each in re.split("[,;]", prefer)]
    judge = partial(parts.kernels.is_a_job, spec, preferred=preferred)
    if judge() if is_quick(spec) else await run_in_threadpool(judge):
        row = await run_in_threadpool(parts.jobs[KERNEL.name].submit, spec, priority=priority)
        applied = {"Preference-Applied": "respond-async"} if preferred else {}
        job = views.kernel(row)
        return json_response(job, 202, {"Location": job["links"]["self"], **applied})
    answer = await parts.kernels.compute(spec, as_text=media == JSON)
    if sum(array.size for array in answer.arrays.values()) <= SMALL:
        return BY_MEDIA[media](answer, parts.settings)
    return await run_in_threadpool(BY_MEDIA[media], answer, parts.settings)


class Estimate(BaseModel):
    """What a kernel would cost. Estimates, not measurements."""

    model_config = ConfigDict(extra="allow")  # and the rest of the plan, as in `POST /kernel`

    answered: Literal["at once", "as a job"] = Field(
        description="Whether `POST /kernel` answers with the kernel or with a job.", examples=["as a job"]
    )
    shape: list[int] = Field(description="Rows and columns.", examples=[[8000, 8000]])
    flops: float = Field(description="Floating-point operations.", examples=[1.2e10])
    bytes: int = Field(description="Memory.", examples=[2**30])
    disk_bytes: float = Field(description="What is written to disk.", examples=[2.56e8])
    seconds: float = Field(description="Wall time on one ordinary core.", examples=[3.1])
    implementation: str = Field(description="How it would be computed.", examples=["closed_form"])


@router.post(
    "/kernel/estimate",
    summary="Estimate the cost of a kernel",
    response_model=Estimate,
    responses=problems(*JSON_OR_FORM),
    openapi_extra=form_documentation(KernelRoute.files, IN_FORM),
)
def cost(
    spec: Annotated[KernelSpec, Body(openapi_examples={"quadratic": EXAMPLE})], parts: UseServices
) -> Response:
    """Operations, memory, disk, time and plan of a kernel, without computing it."""
    return json_response(estimate(spec, parts.settings))


def _as_json(answer: Message, settings: Settings) -> Response:
    check_json_size(sum(array.size for array in answer.arrays.values()), settings)
    first: Array = next(iter(answer.arrays.values()))
    return json_response({"kernels": answer.arrays, "shape": first.shape, **answer.header})


def _as_npy(answer: Message, _settings: Settings) -> Response:
    if len(answer.arrays) != 1:
        names = ", ".join(answer.arrays)
        hint = f"Ask for one kernel in /of/get, or accept {NPZ}."
        raise ServiceError("not-acceptable", f"An .npy holds one array; these are {names}.", hint=hint)
    (array,) = answer.arrays.values()
    return Response(npy(array), media_type=NPY)


def _as_npz(answer: Message, _settings: Settings) -> Response:
    return Response(npz(answer.arrays, answer.header), media_type=NPZ)


def _as_arrow(answer: Message, _settings: Settings) -> Response:
    return Response(arrow.stream(answer.arrays, answer.header), media_type=ARROW)


BY_MEDIA = {JSON: _as_json, NPY: _as_npy, NPZ: _as_npz, ARROW: _as_arrow}
