"""A real worker in a process of its own: `python -m tests.service.work engine`, or `double`."""

from __future__ import annotations

import sys

from service.commands.worker import work_until_stopped
from service.settings import Settings
from tests.service.serve import WORK

if __name__ == "__main__":
    work_until_stopped(Settings(), WORK[sys.argv[1]])
