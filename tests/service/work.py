"""A real worker in a process of its own: `python -m tests.service.work engine`, or `double`."""

from __future__ import annotations

import os
import sys

from service.commands.worker import work_until_stopped
from service.settings import Settings
from tests.service.serve import WORK, become_newer


def main(work: str) -> None:
    """Take jobs until told to stop."""
    if "NTK_TEST_UPGRADE" in os.environ:
        become_newer()
    work_until_stopped(Settings(), WORK[work])


if __name__ == "__main__":
    main(sys.argv[1])
