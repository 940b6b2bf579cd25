"""What handlers work with: put into the application by its composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, cast

from fastapi import Depends, Request

from service.access.keys import Principal
from service.runs.accounts import Accounts
from service.runs.datasets import DataSets
from service.runs.influence import Influences
from service.runs.kernels import Kernels
from service.runs.manager import Jobs
from service.runs.onnx_kernels import OnnxKernels
from service.runs.predictions import Predictions
from service.settings import Settings


@dataclass(frozen=True)
class Services:
    """The service's parts, as handlers see them."""

    settings: Settings
    jobs: Mapping[str, Jobs]  # by the name of their kind
    kernels: Kernels
    predictions: Predictions
    onnx_kernels: OnnxKernels
    influences: Influences
    datasets: DataSets
    accounts: Accounts
    readiness: Callable[[], dict[str, str]]
    version: str
    schema_version: int


def services(request: Request) -> Services:
    """The parts behind the application that serves this request, with what its sender may see."""
    parts = cast("Services", request.app.state.services)
    asker = cast("Principal", request.state.principal)
    return replace(
        parts,
        jobs={name: each.seen_by(asker) for name, each in parts.jobs.items()},
        kernels=parts.kernels.seen_by(asker),
        predictions=parts.predictions.seen_by(asker),
        onnx_kernels=parts.onnx_kernels.seen_by(asker),
        influences=parts.influences.seen_by(asker),
        datasets=parts.datasets.seen_by(asker),
    )


async def of_request(request: Request) -> Services:
    """`services`, in the event loop: a thread would take longer to find than this does."""
    return services(request)


UseServices = Annotated[Services, Depends(of_request)]
