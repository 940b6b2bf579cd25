"""Work in other processes, while the client waits."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from ntkengine.errors import ResourceError
from service.compute.pool import NoWorker
from service.compute.worker import Task, TaskFailed, WorkerDied
from service.encoding import Message
from service.errors import ServiceError, from_parts


async def answer(executor: Executor, task: Task, request: Message, seconds: float) -> Message:
    """What `task` makes of a request.

    Args:
        seconds: the executor's patience, for the error.

    Raises:
        EngineError: the work took too long.
        ServiceError: it failed, or there was no process for it.
    """
    future = executor.submit(task, request)
    try:
        return await asyncio.wrap_future(future)
    except TaskFailed as failure:
        raise from_parts(failure.parts) from None
    except TimeoutError:
        limit = {"seconds": seconds}
        raise ResourceError("it took too long and was stopped", estimate={}, limit=limit) from None
    except WorkerDied as death:
        detail = f"The process that computed this was {death}; other requests are not affected."
        raise ServiceError("worker-died", detail) from None
    except NoWorker as lack:
        later = {"Retry-After": "5"}
        raise ServiceError("unavailable", f"Nothing can be computed now: {lack}.", headers=later) from None
