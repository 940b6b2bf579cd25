"""Where the nursery begins: first it sees to its end, then it loads what is needed, which takes a while."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Be killed when the thread that started this process ends; or now, if `parent` is gone already."""
    if sys.platform == "linux":  # elsewhere a child ends when it next reads from, or writes to, its parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))

    from service.compute.nursery import main

    main(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
