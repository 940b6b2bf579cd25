"""The main loop of a child process: load what is needed, then answer messages until the parent is gone."""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from ntkengine.errors import EngineError
from service.encoding import Message

PR_SET_PDEATHSIG = 1
logger = logging.getLogger(__name__)


def main(descriptor: int, parent: int, warm: str) -> None:
    """Call the function named `warm`, then answer what comes over the socket; die with `parent`."""
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    connection = Connection(descriptor)
    _find(warm)()
    connection.send_bytes(Message({"kind": "warm"}).pack())
    while True:
        try:
            request = Message.unpack(connection.recv_bytes())
        except EOFError:
            return
        for reply in _replies(request):
            connection.send_bytes(reply.pack())


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":  # elsewhere a child ends when it next reads from, or writes to, its parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def _replies(request: Message) -> Iterator[Message]:
    try:
        for answer in _answers(request):
            yield Message({"kind": "answer", "body": answer.header}, answer.arrays)
    except EngineError as error:
        yield _failed(error.category, str(error), **vars(error))
    except MemoryError:
        yield _failed("too_costly", "There was not enough memory.")
    except Exception as error:
        logger.exception("a task failed unexpectedly")
        yield _failed("internal", f"The computation failed: {type(error).__name__}.")
    else:
        yield Message({"kind": "done"})


def _failed(category: str, detail: str, **more: Any) -> Message:
    return Message({"kind": "failed", "body": {"category": category, "detail": detail, **more}})


def _answers(request: Message) -> Iterable[Message]:
    task = _find(request.header["task"])
    body = Message(request.header["body"], request.arrays)
    return task(body) if request.header["mode"] == "stream" else (task(body),)


def _find(dotted: str) -> Callable[..., Any]:
    module, _, name = dotted.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
