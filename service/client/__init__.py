"""The Python client: httpx and numpy, no torch."""

from service.client.aio import AsyncClient, AsyncHandle, AsyncKernelJob, AsyncRun, AsyncSweep
from service.client.operations import Patience
from service.client.problems import ConnectionLost, Offence, ProblemError
from service.client.results import (
    DatasetInfo,
    Event,
    Experiment,
    Influence,
    Job,
    Kernels,
    Prediction,
    Series,
)
from service.client.sync import Client, Handle, KernelJob, Run, Sweep

__all__ = [
    "AsyncClient",
    "AsyncHandle",
    "AsyncKernelJob",
    "AsyncRun",
    "AsyncSweep",
    "Client",
    "ConnectionLost",
    "DatasetInfo",
    "Event",
    "Experiment",
    "Handle",
    "Influence",
    "Job",
    "KernelJob",
    "Kernels",
    "Offence",
    "Patience",
    "Prediction",
    "ProblemError",
    "Run",
    "Series",
    "Sweep",
]
