"""A child process as its parent sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from service.compute.nursery import NUMBER, unpacked
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
    """One child: give it a message, read its answers. Used by one thread at a time; anyone may kill it.

    `keeper` leads to the nursery: from there comes the exit status, and to shut it down kills the child.
    """

    def __init__(self, pid: int, connection: Connection, keeper: socket.socket) -> None:
        self.pid = pid
        self.idle = True
        self._connection = connection
        self._keeper = keeper

    def alive(self) -> bool:
        """Whether the child still exists."""
        try:
            self._keeper.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:  # it was closed
            return False
        return False

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
        with suppress(OSError):  # it was closed
            self._keeper.shutdown(socket.SHUT_WR)
            self._exit_status()

    def close(self) -> None:
        """Kill the child and give up the connection; only for the thread that uses the worker."""
        self.kill()
        self._connection.close()
        self._keeper.close()

    def _exit_status(self) -> int:
        """Wait for it. It is left where it came, for whoever asks next."""
        told = self._keeper.recv(NUMBER, socket.MSG_PEEK)
        return unpacked(told) if told else -signal.SIGKILL  # the nursery died, and its children with it

    def _send(self, message: Message) -> None:
        try:
            self._connection.send_bytes(message.pack())
        except OSError:
            raise WorkerDied(self._exit_status()) from None

    def _receive(self, patience: float | None = None) -> Message:
        try:
            data = self._connection.recv_bytes() if self._connection.poll(patience) else None
        except (EOFError, OSError):
            raise WorkerDied(self._exit_status()) from None
        if data is None:
            raise TimeoutError
        return Message.unpack(data)


class Nursery(NamedTuple):
    """The nursery as its parent sees it."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    """Over which it is asked for children."""


class Launcher:
    """Has children forked by a nursery, which it starts from a thread of its own.

    The nursery dies with that thread (PR_SET_PDEATHSIG), which lives as long as the server.
    """

    def __init__(self, warm: Warm, memory: int) -> None:
        self._warm = dotted(warm)
        self._memory = memory
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="launcher")
        self._founding = threading.Lock()
        self._closed = False
        self._nursery: Nursery | None = None

    def start(self) -> Worker:
        """A new child, ready to answer. The first takes as long as it takes to load what children need.

        Raises:
            WorkerDied: the nursery did not get that far.
            OSError: the system has no room for another process.
            RuntimeError: the launcher was closed.
        """
        return self._thread.submit(self._start).result()

    def _start(self) -> Worker:
        process, control = self._founded()
        ours, work = socket.socketpair()
        keeper, kept = socket.socketpair()
        with work, kept, suppress(OSError):  # it is dead, which is found below
            socket.send_fds(control, [b" "], [work.fileno(), kept.fileno()])
        told = keeper.recv(NUMBER)
        if told and (pid := unpacked(told)) > 0:
            return Worker(pid, Connection(ours.detach()), keeper)
        ours.close()
        keeper.close()
        if told:
            raise OSError(-pid, os.strerror(-pid))
        raise WorkerDied(process.wait())

    def _founded(self) -> Nursery:
        """The nursery, perhaps still loading; a new one where it died."""
        with self._founding:
            if self._closed:
                raise RuntimeError("the launcher is closed")
            if self._nursery is not None and self._nursery.process.poll() is not None:
                self._nursery.control.close()
                self._nursery = None
            self._nursery = self._nursery or self._new_nursery()
            return self._nursery

    def _new_nursery(self) -> Nursery:
        control, theirs = socket.socketpair()
        with theirs:
            path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
            arguments = [str(os.getpid()), str(theirs.fileno()), self._warm, str(self._memory)]
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "service.compute.start", *arguments],
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        return Nursery(process, control)

    def close(self) -> None:
        """Kill the nursery, and with it every child that is left."""
        with self._founding:
            self._closed = True
            if self._nursery is not None:
                self._nursery.process.kill()
        self._thread.shutdown()
        if self._nursery is not None:
            self._nursery.process.wait()
            self._nursery.control.close()
