"""The main loop of a computing process: answer messages until the server is gone."""

from __future__ import annotations

import errno
import importlib
import logging
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


def serve(connection: Connection) -> None:
    """Answer what comes over the connection."""
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    with suppress(EOFError, ConnectionError):  # the server is gone, or wants no more: nobody is to be told
        while True:
            for reply in _replies(connection.recv_bytes()):
                connection.send_bytes(reply.pack())


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
    task = find(request.header["task"])
    body = Message(request.header["body"], request.arrays)
    streams = request.header["mode"] == "stream"
    for answer in task(body) if streams else (task(body),):
        yield Message({"kind": "answer", "body": answer.header}, answer.arrays)
    if streams:
        yield Message({"kind": "done"})


def find(dotted: str) -> Callable[..., Any]:
    """The module-level function of this name, `package.module:function`."""
    module, _, name = dotted.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
