"""Work in other processes, while the client waits."""

from __future__ import annotations

import asyncio
from typing import Self

from starlette.concurrency import run_in_threadpool

from ntkengine.errors import ResourceError
from service.access.keys import ANYONE, Principal
from service.compute.nobody import Nobody
from service.compute.pool import NoWorker, ProcessExecutor
from service.compute.worker import Task, TaskFailed, WorkerDied
from service.encoding import Message
from service.errors import ServiceError, from_parts
from service.runs.usage import Usage
from service.settings import Settings


class Waiting:
    """What `asker` waits for: computed in other processes, and counted.

    Args:
        seconds: the executor's patience, for the error.
    """

    def __init__(
        self, executor: ProcessExecutor | Nobody, seconds: float, usage: Usage, asker: Principal = ANYONE
    ) -> None:
        self._executor = executor
        self._seconds = seconds
        self._usage = usage
        self._asker = asker

    def seen_by(self, asker: Principal) -> Waiting:
        """The same, counted for another."""
        return Waiting(self._executor, self._seconds, self._usage, asker)

    async def answer(self, task: Task, request: Message) -> Message:
        """What `task` makes of a request.

        Raises:
            EngineError: the work took too long.
            ServiceError: it failed, there was no process for it, or the asker may have no more today.
        """
        owner = self._asker.name
        if self._usage.limited:
            await run_in_threadpool(self._usage.check, owner)
        future = self._executor.submit(task, request, during=self._usage.counting(owner))
        try:
            return await asyncio.wrap_future(future)
        except TaskFailed as failure:
            raise from_parts(failure.parts) from None
        except TimeoutError:
            limit = {"seconds": self._seconds}
            raise ResourceError("it took too long and was stopped", estimate={}, limit=limit) from None
        except WorkerDied as death:
            detail = f"The process that computed this was {death}; other requests are not affected."
            raise ServiceError("worker-died", detail) from None
        except NoWorker as lack:
            later = {"Retry-After": "5"}
            detail = f"Nothing can be computed now: {lack}."
            raise ServiceError("unavailable", detail, headers=later) from None


class Synchronous:
    """Computes what clients can wait for. A kind of request is a subclass."""

    def __init__(self, waiting: Waiting, task: Task, settings: Settings) -> None:
        self._waiting = waiting
        self._task = task
        self._settings = settings

    def seen_by(self, asker: Principal) -> Self:
        """The same, counted for the asker."""
        return type(self)(self._waiting.seen_by(asker), self._task, self._settings)

    async def _answer(self, request: Message) -> Message:
        return await self._waiting.answer(self._task, request)
