"""A real worker in a process of its own: `python -m tests.service.work engine`, or `double`."""

from __future__ import annotations

import sys

from service.commands.worker import work_until_stopped
from service.settings import Settings
from tests.service.serve import WORK, become_newer_if_asked


def main(work: str) -> None:
    """Take jobs until told to stop."""
    become_newer_if_asked()
    work_until_stopped(Settings(), WORK[work])


if __name__ == "__main__":
    main(sys.argv[1])
