"""The main loop of a child process: load what is needed, then answer messages until the parent is gone."""

from __future__ import annotations

import errno
import importlib
import logging
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ntkengine.errors import EngineError
from service.encoding import Message

FIRST_TO_GO = "500"  # of -1000 to 1000: where the whole machine has no memory left, before the server
TORCH_HAS_NO_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "std::bad_alloc")
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
logger = logging.getLogger(__name__)


def main(descriptor: int, warm: str, memory: int) -> None:
    """Call the function named `warm`, then answer what comes over the socket."""
    _limit_memory(memory)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    connection = Connection(descriptor)
    _find(warm)()
    with suppress(EOFError, ConnectionError):  # the parent is gone, or wants no more: nobody is to be told
        _serve(connection)


def _serve(connection: Connection) -> None:
    connection.send_bytes(Message({"kind": "warm"}).pack())
    while True:
        for reply in _replies(connection.recv_bytes()):
            connection.send_bytes(reply.pack())


def _limit_memory(most: int) -> None:
    """Have allocations fail here rather than have the machine choose what to kill; see decision 0041."""
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _replies(data: bytes) -> Iterator[Message]:
    try:
        yield from _answers(Message.unpack(data))
    except EngineError as error:
        yield _failed(error.category, str(error), **vars(error))
    except Exception as error:
        limit = _limit_reached(error)
        if limit is None:
            logger.exception("a task failed unexpectedly")
        yield limit or _failed("internal", f"The computation failed: {type(error).__name__}.")


def _limit_reached(error: Exception) -> Message | None:
    if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
        return _failed("insufficient_storage", "The disk has no room left.")
    if _is_out_of_memory(error):
        return _failed("too_costly", "The computation needed more memory than one may have here.")
    return None


def _is_out_of_memory(error: Exception) -> bool:
    # torch raises a RuntimeError, and says in words what numpy and Python have a class for
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in TORCH_HAS_NO_MEMORY)


def _failed(category: str, detail: str, **more: Any) -> Message:
    return Message({"kind": "failed", "body": {"category": category, "detail": detail, **more}})


def _answers(request: Message) -> Iterator[Message]:
    """One answer to a call; the answers of a stream, and that it is done."""
    task = _find(request.header["task"])
    body = Message(request.header["body"], request.arrays)
    streams = request.header["mode"] == "stream"
    for answer in task(body) if streams else (task(body),):
        yield Message({"kind": "answer", "body": answer.header}, answer.arrays)
    if streams:
        yield Message({"kind": "done"})


def _find(dotted: str) -> Callable[..., Any]:
    module, _, name = dotted.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
