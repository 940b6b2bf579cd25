"""What one more training point does, computed while the client waits."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, Field

from ntkengine.influence import InfluenceSpec
from service.routes.body import JSONRoute
from service.routes.documentation import JSON_OR_FORM, problems
from service.routes.forms import Files, arrays, form_documentation
from service.routes.responses import json_response
from service.routes.services import UseServices


class InfluenceRoute(JSONRoute):
    """The arrays may be files."""

    files: ClassVar[Files] = arrays("/data/x", "/data/y", "/x_new", "/y_new", "/points")


router = APIRouter(tags=["predictions"], route_class=InfluenceRoute)

EXAMPLE: Any = {
    "summary": "A tanh network on two points, and a third one",
    "value": {
        "model": {
            "layers": [
                {"kind": "dense", "width": 512, "b_std": 0.5},
                {"kind": "tanh"},
                {"kind": "dense", "width": 1},
            ]
        },
        "data": {"x": [[-1.0], [0.0]], "y": [[0.5], [0.0]]},
        "x_new": [[1.0]],
        "y_new": [[0.5]],
        "points": [[-0.5], [0.5], [1.0]],
    },
}

OUTPUTS = [[0.1], [0.3], [0.5]]


class InfluenceAnswer(BaseModel):
    """Outputs at the points, and how they move once the new point is trained on."""

    before: list[Any] = Field(description="Outputs (n, k) without the new point.", examples=[OUTPUTS])
    after: list[Any] = Field(description="Outputs (n, k) with it.", examples=[OUTPUTS])
    moved: list[Any] = Field(description="The difference, as the network moved.", examples=[OUTPUTS])
    predicted: list[Any] = Field(
        description="The difference that the kernel foretells, frozen where the point was added.",
        examples=[OUTPUTS],
    )
    weight: list[float] = Field(
        description="Theta(x, x_new) (n,), the trace over outputs: how much the new point matters at x.",
        examples=[[0.2, 0.6, 1.0]],
    )
    relative_error: float = Field(description="|moved - predicted| / |moved|.", examples=[0.004])
    seconds: float = Field(description="Wall time of the computation.", examples=[0.4])


@router.post(
    "/influence",
    summary="Add a training point",
    response_model=InfluenceAnswer,
    responses=problems(*JSON_OR_FORM, "worker-died", "unavailable"),
    openapi_extra=form_documentation(InfluenceRoute.files, {"model": EXAMPLE["value"]["model"]}),
)
async def influence(
    spec: Annotated[InfluenceSpec, Body(openapi_examples={"tanh": EXAMPLE})], parts: UseServices
) -> Response:
    """Train a network, add a point, train on: how its outputs move everywhere, and how the kernel says."""
    answer = await parts.influences.compute(spec)
    return json_response({**answer.arrays, **answer.header})
