"""Kernels that are computed while the client waits."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from starlette.concurrency import run_in_threadpool

from ntkengine.errors import ResourceError
from ntkengine.kernels import KernelSpec
from ntkengine.spec import to_jsonable
from service.compute.pool import NoWorker
from service.compute.worker import Task, TaskFailed, WorkerDied
from service.encoding import Message
from service.errors import ServiceError, from_parts
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

        Raises:
            EngineError: the spec does not hold together, or the work is over a limit.
            ServiceError: the computation failed.
        """
        await run_in_threadpool(self._check, spec, as_text)
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

    def _check(self, spec: KernelSpec, as_text: bool) -> None:
        check_model(spec.model, self._settings)  # first: the rest takes longer the larger the network is
        spec.check()
        check_kernel(spec, self._settings)
        if as_text:
            check_json_size(least_numbers(spec), self._settings)
