"""The standard executor of a process that computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from service.compute.pool import NoWorker


class Nobody(Executor):
    """Refuses all work."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that has failed, with NoWorker."""
        future: Future[Any] = Future()
        future.set_exception(NoWorker("this server leaves computing to others; ask one of them"))
        return future
