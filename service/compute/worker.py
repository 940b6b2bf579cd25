"""A child process as its parent sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from service.encoding import Message

Warm = Callable[[], None]
Task = Callable[[Message], Message]
Stream = Callable[[Message], Iterator[Message]]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class WorkerDied(Exception):
    """A child ended before its answer did."""

    def __init__(self, code: int) -> None:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        super().__init__(how)


class TaskFailed(Exception):
    """The task raised; `parts` is what the child says about it: category, detail, pointer, hint, ..."""

    def __init__(self, parts: dict[str, Any]) -> None:
        super().__init__(parts["detail"])
        self.parts = parts


def dotted(function: Callable[..., Any]) -> str:
    """The name under which another process finds a module-level function."""
    return f"{function.__module__}:{function.__qualname__}"


def answer_in(reply: Message) -> Message:
    """What the task itself has said."""
    return Message(reply.header["body"], reply.arrays)


class Worker:
    """One child: give it a message, read its answers. Used by one thread at a time; anyone may kill it."""

    def __init__(self, process: subprocess.Popen[bytes], connection: Connection) -> None:
        self._process = process
        self._connection = connection
        self.idle = False

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the child still exists."""
        return self._process.poll() is None

    def wait_until_warm(self) -> None:
        """Return when the child has loaded what it needs.

        Raises:
            WorkerDied: it did not get that far.
        """
        self._receive()
        self.idle = True

    def call(self, task: Task, request: Message, patience: float | None = None) -> Message:
        """The answer of `task`, a module-level function, to `request`.

        Raises:
            TaskFailed: the task raised.
            TimeoutError: there was no answer for `patience` seconds; the child goes on.
            WorkerDied: the child is gone.
        """
        self._ask("call", task, request)
        reply = self._receive(patience)
        self._end(reply)
        return answer_in(reply)

    def stream(self, task: Stream, request: Message) -> Iterator[Message]:
        """The answers of a generator function, one by one as they come; raises like `call`."""
        self._ask("stream", task, request)
        while (reply := self._receive()).header["kind"] == "answer":
            yield answer_in(reply)
        self._end(reply)

    def _ask(self, mode: str, task: Callable[..., Any], request: Message) -> None:
        self.idle = False
        self._send(Message({"mode": mode, "task": dotted(task), "body": request.header}, request.arrays))

    def _end(self, last: Message) -> None:
        self.idle = True
        if last.header["kind"] == "failed":
            raise TaskFailed(last.header["body"])

    def kill(self) -> None:
        """End the child now, whatever it does; whoever waits for its answer gets WorkerDied."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill the child and give up the connection; only for the thread that uses the worker."""
        self.kill()
        self._connection.close()

    def _send(self, message: Message) -> None:
        try:
            self._connection.send_bytes(message.pack())
        except OSError:
            raise WorkerDied(self._process.wait()) from None

    def _receive(self, patience: float | None = None) -> Message:
        try:
            data = self._connection.recv_bytes() if self._connection.poll(patience) else None
        except (EOFError, OSError):
            raise WorkerDied(self._process.wait()) from None
        if data is None:
            raise TimeoutError
        return Message.unpack(data)


class Launcher:
    """Starts children, all from one thread.

    A child dies with the thread that started it (PR_SET_PDEATHSIG): that thread lives as long as the server.
    """

    def __init__(self, warm: Warm, memory: int) -> None:
        self._warm = dotted(warm)
        self._memory = memory
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="launcher")

    def start(self) -> Worker:
        """A new child, not yet warm."""
        return self._thread.submit(self._start).result()

    def _start(self) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
            arguments = [str(os.getpid()), str(theirs.fileno()), self._warm, str(self._memory)]
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "service.compute.start", *arguments],
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        return Worker(process, Connection(ours.detach()))

    def close(self) -> None:
        """End the thread, and with it every child that is left."""
        self._thread.shutdown()
