"""Tasks on a Ray cluster, behind the interface of standard executors. The only module that knows Ray.

What crosses is a message, as between our own processes, and the name of a function. Ray itself sends what it
is given as pickles, so a cluster that lets anybody in would run anybody's code: it has to ask for a token.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from importlib import import_module
from typing import Any

from ntkengine.errors import EngineError
from service.compute.worker import dotted
from service.encoding import Message

MODE = "RAY_AUTH_MODE"
TRIES = 3  # of a task whose machine is lost
HOW = (
    f"set {MODE}=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, here and on the cluster, and install the "
    "extra: pip install 'ntkengine[ray]'"
)


class NoCluster(EngineError):
    """There is no cluster at the address, or it does not let us in."""

    category = "unavailable"


def check_guarded() -> None:
    """Refuse a cluster that lets anybody in.

    Raises:
        RuntimeError: this process is not set to use a token.
    """
    if os.environ.get(MODE) != "token":
        raise RuntimeError(f"a Ray cluster has to ask for a token: {HOW}")


class ClusterExecutor(Executor):
    """Calls module-level functions of messages on the cluster at `address`.

    Raises:
        NoCluster: it cannot be joined.
    """

    def __init__(self, address: str) -> None:
        check_guarded()
        try:
            import ray

            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
            there = ray.cluster_resources()  # type: ignore[no-untyped-call]
            self.cpus = int(there.get("CPU", 1))
        except (ImportError, ConnectionError, RuntimeError, ValueError) as error:
            said = f"the Ray cluster at {address} cannot be used: {str(error)[:200]}"
            raise NoCluster(said, hint=HOW) from None
        self._ray = ray
        self._call = ray.remote(max_retries=TRIES)(_call)

    def share(self, message: Message) -> Any:
        """What stands for the message in calls, so that each machine is sent it once."""
        return self._ray.put(message.pack())

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn(*messages)` somewhere; the future holds its answer, a message. Arguments may be shared."""
        sent = [arg.pack() if isinstance(arg, Message) else arg for arg in args]
        future: Future[bytes] = self._call.remote(dotted(fn), *sent).future()
        answer: Future[Message] = Future()
        future.add_done_callback(lambda done: _pass_on(done, answer))
        return answer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; what is being computed there is given up."""
        self._ray.shutdown()


def _pass_on(done: Future[bytes], answer: Future[Message]) -> None:
    error = done.exception()
    if error is None:
        answer.set_result(Message.unpack(done.result()))
    else:
        answer.set_exception(error)


def _call(name: str, *sent: bytes) -> bytes:
    """On a machine of the cluster."""
    module, _, function = name.partition(":")
    answer: Message = getattr(import_module(module), function)(*map(Message.unpack, sent))
    return answer.pack()
