"""Training in closed form, computed while the client waits."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from ntkengine.predict import PredictSpec
from service.encoding import Message, npz
from service.routes.body import JSONRoute
from service.routes.documentation import JSON_OR_FORM, problems
from service.routes.forms import Files, arrays, form_documentation, weights
from service.routes.negotiation import negotiate
from service.routes.responses import json_response
from service.routes.services import UseServices


class PredictRoute(JSONRoute):
    """Predictions: data and weights may be files."""

    files: ClassVar[Files] = {
        **arrays("/data/x", "/data/y", "/data/x_test", "/data/y_test"),
        **weights("/of/weights"),
    }


router = APIRouter(tags=["predictions"], route_class=PredictRoute)

BINARY = {"schema": {"type": "string", "format": "binary"}}
JSON, NPZ = "application/json", "application/x-npz"

MODEL: Any = {
    "parameterization": {"kind": "ntk"},
    "layers": [
        {"kind": "dense", "width": 1000, "W_law": {"kind": "uniform", "half_width": 1.0},
         "b_std": 1.0, "b_law": {"kind": "uniform", "half_width": 0.5}},
        {"kind": "quadratic"},
        {"kind": "dense", "width": 1, "W_law": {"kind": "uniform", "half_width": 1.0}},
    ],
}  # fmt: skip
DATA: Any = {"x": [[1.0], [-1.0]], "y": [[1.0], [1.0]], "x_test": [[0.5]]}

EXAMPLES: Any = {
    "flow": {
        "summary": "The quadratic network of the notes under gradient flow: mean and covariance over starts",
        "value": {
            "model": MODEL,
            "data": DATA,
            "training": {"kind": "gradient_flow", "times": [0.0, 1.0, 10.0, "inf"]},
            "covariance": True,
        },
    },
    "steps": {
        "summary": "One network from seed 0, by steps with momentum on torch's MSELoss",
        "value": {
            "model": {**MODEL, "layers": [{**MODEL["layers"][0], "width": 8}, *MODEL["layers"][1:]]},
            "data": DATA,
            "of": {"kind": "empirical", "seed": 0},
            "training": {"kind": "gradient_descent", "learning_rate": 0.05, "momentum": 0.9,
                         "steps": [0, 10, 100], "loss": {"kind": "mean"}},
        },
    },
    "given": {
        "summary": "Kernel regression with a ridge, on a kernel of one's own",
        "value": {
            "of": {"kind": "given",
                   "ntk": {"train_train": [[2.0, 1.0], [1.0, 2.0]], "test_train": [[1.0, 0.0]]}},
            "data": {"y": [[1.0], [0.0]]},
            "ridge": 0.1,
        },
    },
}  # fmt: skip


class PredictAnswer(BaseModel):
    """Outputs at T times or steps, and what can be said of them."""

    times: list[float | str] = Field(
        description="T times in the unit below; `inf` is the end of training.", examples=[[0.0, 1.0, "inf"]]
    )
    steps: list[int] | None = Field(
        description="T numbers of steps; null where training is a flow.", examples=[[0, 10, 100]]
    )
    mean_train: list[Any] = Field(
        description="Outputs (T, n, k) on the training points: of the one network, or the mean over "
        "initialisations. With a ridge they do not tend to the targets.",
        examples=[[[[0.0], [0.0]]]],
    )
    mean_test: list[Any] | None = Field(default=None, description="The same on test points, (T, m, k).")
    covariance_train: list[Any] | None = Field(
        default=None,
        description="Covariance (T, n, n) over initialisations, of each output; (T, n, n, k, k) for blocks.",
    )
    covariance_test: list[Any] | None = Field(default=None, description="The same on test points, (T, m, m).")
    loss_train: list[float] = Field(description="Loss (T,) of the mean.", examples=[[1.0]])
    loss_test: list[float] | None = Field(default=None, description="The same on test targets.")
    leave_one_out: list[Any] | None = Field(
        default=None,
        description="Errors f - y (n, k) on each training point at the end of training on the others; "
        "left out where the kernel with ridge is singular.",
    )
    diagnostics: dict[str, Any] = Field(
        description="Of the kernel on the training points: smallest and largest eigenvalue, how many were "
        "clipped at 0, rank, the `rcond` below which eigenvalues count as 0, condition number (null where "
        "singular), effective rank (sum l)^2 / sum l^2. Null is what the solver does not know.",
        examples=[{"lambda_min": 1.33, "lambda_max": 1.65, "clipped": 0, "rank": 2, "rcond": 4.4e-16,
                   "condition_number": 1.24, "effective_rank": 1.98}],
    )  # fmt: skip
    learning_rate_limit: float | None = Field(
        description="Learning rate from which on steps diverge, for this loss, ridge and momentum.",
        examples=[1.21],
    )
    rate_factor: float | None = Field(
        description="Factor of the loss on every rate, against half_sum.", examples=[1.0]
    )
    time_per_step: float | None = Field(
        description="Units of time in a step, learning_rate / (1 - momentum); null for the flow.",
        examples=[0.5],
    )
    time_unit: str = Field(description="The unit of time, in words.", examples=["time of gradient flow"])
    method: dict[str, Any] = Field(
        description="How the kernel was computed.", examples=[{"kind": "moments", "error_bound": 0.0}]
    )
    scaling: dict[str, Any] | None = Field(
        description="At infinite width: the power of the width whose coefficient the kernel is.",
        examples=[{"width_power": 0, "constant_in_training": True}],
    )
    plan: dict[str, Any] = Field(
        description="Cost of the kernel, and the solver that was chosen.",
        examples=[{"solver": {"method": "eigendecomposition"}}],
    )
    warnings: list[str] = Field(description="What one should know before using the numbers.", examples=[[]])
    seconds: float = Field(description="Wall time of the computation.", examples=[0.004])


@router.post(
    "/predict",
    summary="Train in closed form",
    response_model=PredictAnswer,
    responses={
        200: {"description": "The prediction. `application/x-npz` holds its arrays and `times` by name, with "
              "the rest as JSON in `about`.",
              "content": {NPZ: BINARY}},
        **problems(*JSON_OR_FORM, "not-acceptable", "worker-died", "unavailable"),
    },
    openapi_extra=form_documentation(PredictRoute.files, {"model": MODEL}),
)  # fmt: skip
async def predict(
    request: Request,
    spec: Annotated[PredictSpec, Body(openapi_examples=EXAMPLES)],
    parts: UseServices,
) -> Response:
    """What training makes of data with a constant kernel: outputs at any times or steps, on any points."""
    media = negotiate(request, [JSON, NPZ])
    answer = await parts.predictions.compute(spec, as_text=media == JSON)
    return await run_in_threadpool(_BY_MEDIA[media], answer)


def _as_json(answer: Message) -> Response:
    return json_response({**answer.header, **answer.arrays})


def _as_npz(answer: Message) -> Response:
    times = np.array(answer.header["times"], dtype=np.float64)  # it reads "inf" too
    return Response(npz({"times": times, **answer.arrays}, answer.header), media_type=NPZ)


_BY_MEDIA = {JSON: _as_json, NPZ: _as_npz}
