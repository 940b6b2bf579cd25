"""Kernels: computed while the client waits, where they are small; what larger ones hold."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from ntkengine.errors import ResourceError
from ntkengine.kernels import KernelSpec
from ntkengine.spec import to_jsonable
from service.compute.pool import NoWorker
from service.compute.worker import Task, TaskFailed, WorkerDied
from service.encoding import Message
from service.errors import ServiceError, from_parts
from service.runs.kernel_plan import check_parts, has_tiles
from service.runs.limits import check_json_size, check_kernel, check_model, least_numbers
from service.settings import Settings


class Kernels:
    """Computes kernels in other processes, if they are small enough to wait for."""

    def __init__(self, executor: Executor, task: Task, settings: Settings) -> None:
        self._executor = executor
        self._task = task
        self._settings = settings

    async def compute(self, spec: KernelSpec, *, as_text: bool) -> Message:
        """The kernels by name, and how they were computed; `as_text`: they are to be written as JSON.

        The spec has been found to be no job.

        Raises:
            ResourceError: there are too many numbers, or it took too long.
            ServiceError: the computation failed.
        """
        if as_text:
            check_json_size(least_numbers(spec), self._settings)
        future = self._executor.submit(self._task, Message(to_jsonable(spec)))
        try:
            return await asyncio.wrap_future(future)
        except TaskFailed as failure:
            raise from_parts(failure.parts) from None
        except TimeoutError:
            limit = {"seconds": self._settings.kernel_seconds}
            raise ResourceError("it took too long and was stopped", estimate={}, limit=limit) from None
        except WorkerDied as death:
            detail = f"The process that computed this kernel was {death}; other requests are not affected."
            raise ServiceError("worker-died", detail) from None
        except NoWorker:
            later = {"Retry-After": "5"}
            raise ServiceError("unavailable", "All processes are busy.", headers=later) from None

    def is_a_job(self, spec: KernelSpec, *, preferred: bool) -> bool:
        """Whether the kernel is left to a job: because the client prefers that, or it is too large here.

        Raises:
            EngineError: the spec does not hold together, or is over a limit and cannot be a job.
        """
        check_model(spec.model, self._settings)  # first: the rest takes longer the larger the network is
        check_parts(spec)
        try:
            check_kernel(spec, self._settings)
        except ResourceError:
            if has_tiles(spec):
                return True
            raise
        return preferred and has_tiles(spec)
