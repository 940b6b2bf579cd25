"""Regime reports on networks of one's own, saved as ONNX files, under the optimiser that is used for them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Body, Response

from ntkengine.regime import OnnxRegimeSpec
from service.routes.body import JSONRoute
from service.routes.forms import Files, form_documentation, onnx_file
from service.routes.jobs import UsePriority
from service.routes.regime import CREATED, RegimeJob, RegimeRoute, RepeatKey, queued
from service.routes.services import UseServices
from service.runs.kinds import REGIME
from service.runs.manager import Priority


class OnnxRegimeRoute(JSONRoute):
    """The model and the data may be files."""

    files: ClassVar[Files] = {**onnx_file("/onnx"), **RegimeRoute.files}


router = APIRouter(prefix=REGIME.path, tags=["regime"], route_class=OnnxRegimeRoute)

# f(x) = V (W x)^2 with W = 1 and V = 1/2.
EXAMPLE: Any = {
    "summary": "A quadratic neuron in a file, trained by Adam in batches of one",
    "value": {
        "onnx": "CAg6jwEKEwoBeAoBVxIBeiIGTWF0TXVsOgAKEAoBegoBehIBcyIDTXVsOgAKEwoBcwoBVhIBeSIGTWF0TXVsOgAS"
        "A25ldCoPCAEIARABIgQAAIA/QgFXKg8IAQgBEAEiBAAAAD9CAVZaFAoBeBIPCg0IARIJCgMSAW4KAggBYhQKAXkS"
        "DwoNCAESCQoDEgFuCgIIAUIECgAQEQ==",
        "data": {"x": [[1.0], [-0.5]], "y": [[1.0], [0.2]]},
        "optimizer": {"kind": "adam", "lr": 0.05},
        "loss": {"kind": "mean"},
        "batch_size": 1,
        "steps": 50,
        "seeds": 2,
    },
}
IN_FORM = {name: value for name, value in EXAMPLE["value"].items() if name not in {"onnx", "data"}}


@router.post(
    "/onnx",
    status_code=202,
    summary="Ask whether a network in an ONNX file is in the kernel regime",
    response_model=RegimeJob,
    responses=CREATED,
    openapi_extra=form_documentation(OnnxRegimeRoute.files, IN_FORM),
)
def create(
    body: Annotated[OnnxRegimeSpec, Body(openapi_examples={"neuron": EXAMPLE})],
    parts: UseServices,
    idempotency_key: RepeatKey = None,
    priority: UsePriority = Priority.NORMAL,
) -> Response:
    """Queue a report on an existing network, from the weights in its file: it is trained by the optimiser
    that is really used for it, beside its linearization, and once more for each assumption of the theory
    that this training violates, with that assumption restored. The file is parsed, never executed.
    """
    return queued(parts, body, idempotency_key, priority)
