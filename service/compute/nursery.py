"""The process that the computing processes are forked from: it loads what they need, once for all of them.

For each child the server sends two sockets. Over the first the child answers. The second is kept here: it
tells the server the child's process id and, in the end, its exit status. Shut down, it has the child killed.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NoReturn

from service.compute.child import find, serve
from service.compute.start import die_with_parent

logger = logging.getLogger(__name__)

NUMBER = 8  # bytes of a process id or an exit status


def packed(number: int) -> bytes:
    """A process id, an exit status or an error's number, below 0, as it is sent."""
    return number.to_bytes(NUMBER, sys.byteorder, signed=True)


def unpacked(data: bytes) -> int:
    """The number that `packed` has made bytes of."""
    return int.from_bytes(data, sys.byteorder, signed=True)


def main(descriptor: int, warm: str, memory: int) -> None:
    """Call the function named `warm`, then fork a child at each request, until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    # Have allocations fail in a child rather than have the machine choose what to kill; see decision 0041.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    gc.disable()  # nothing of what is loaded will be garbage
    find(warm)()
    gc.freeze()  # a collection would touch, and so copy, the pages that children share
    gc.enable()
    _check_threads()
    Nursery(socket.socket(fileno=descriptor)).work()


def _check_threads() -> None:
    """A fork copies one thread of a process, and what waits for another would wait for ever."""
    threads = Path("/proc/self/task")
    if threads.exists() and len(list(threads.iterdir())) > 1:
        raise RuntimeError("warming up has started threads: no child can be forked from this process")


class Nursery:
    """Forks children, kills them when told, and tells how they ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._kept: dict[int, socket.socket] = {}
        self._doomed: set[int] = set()
        self._pid = os.getpid()
        self._ended, self._ending = socket.socketpair()

    def work(self) -> None:
        """Do what is asked until nobody is left who can ask."""
        self._ended.setblocking(False)
        self._ending.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler it would wake nobody
        signal.set_wakeup_fd(self._ending.fileno())
        while True:
            watched = {kept.fileno(): pid for pid, kept in self._kept.items() if pid not in self._doomed}
            ready = wait([self._control, self._ended, *watched])
            for number in watched.keys() & ready:  # before any child is reaped: its id is still its own
                self._doomed.add(watched[number])
                os.kill(watched[number], signal.SIGKILL)
            if self._ended in ready:
                self._ended.recv(4096)
                self._reap()
            if self._control in ready:
                _, sockets, _, _ = socket.recv_fds(self._control, 1, 2)
                if not sockets:
                    return
                self._fork(*(socket.socket(fileno=number) for number in sockets))

    def _fork(self, work: socket.socket, kept: socket.socket) -> None:
        try:
            pid = os.fork()
        except OSError as error:  # there are too many processes, or there is no memory
            pid = -(error.errno or 0)
        if pid == 0:
            kept.close()
            self._become_child(work)
        work.close()
        with suppress(OSError):  # the server is gone, as will be found next
            kept.send(packed(pid))
        if pid > 0:
            self._kept[pid] = kept
        else:
            kept.close()

    def _become_child(self, work: socket.socket) -> NoReturn:
        status = 1
        try:
            die_with_parent(self._pid)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for inherited in (self._control, self._ended, self._ending, *self._kept.values()):
                inherited.close()
            serve(Connection(work.detach()))
            status = 0
        except Exception:
            logger.exception("a computing process failed")
        finally:  # whatever happened, this process shall not become a second nursery
            os._exit(status)

    def _reap(self) -> None:
        for pid in list(self._kept):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._doomed.discard(pid)
                with self._kept.pop(pid) as kept, suppress(OSError):  # perhaps nobody wants to know any more
                    kept.send(packed(os.waitstatus_to_exitcode(status)))
