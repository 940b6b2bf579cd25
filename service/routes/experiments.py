"""The catalogue of experiments."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from ntkengine.experiments import EXPERIMENTS, Experiment
from ntkengine.spec import to_jsonable
from service.errors import ServiceError
from service.routes.documentation import problems
from service.routes.models import ExperimentList, ExperimentView
from service.routes.responses import json_response

router = APIRouter(prefix="/experiments", tags=["experiments"])


def _view(experiment: Experiment) -> dict[str, Any]:
    words = {name: getattr(experiment, name) for name in ("name", "title", "shows", "expect")}
    return {**words, "spec": to_jsonable(experiment.spec)}


@router.get("", summary="List experiments", response_model=ExperimentList, responses=problems())
def list_experiments() -> Response:
    """All experiments: what each shows, what to expect, and its spec."""
    return json_response({"experiments": [_view(experiment) for experiment in EXPERIMENTS.values()]})


@router.get(
    "/{name}", summary="Show an experiment", response_model=ExperimentView, responses=problems("not-found")
)
def show(
    name: Annotated[str, Path(description="The experiment's name.", examples=list(EXPERIMENTS)[:1])],
) -> Response:
    """One experiment."""
    if name not in EXPERIMENTS:
        hint = f"Use one of {', '.join(EXPERIMENTS)}."
        raise ServiceError("not-found", f"There is no experiment {name!r}.", hint=hint)
    return json_response(_view(EXPERIMENTS[name]))
