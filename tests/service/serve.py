"""A real server in a process of its own: `python -m tests.service.serve engine`, or `double`."""

from __future__ import annotations

import sys
from dataclasses import replace

from service.app import Work, create_app
from service.runs.kinds import KINDS, RUN
from service.serving import server_of
from service.settings import Settings
from tests.service import double

DOUBLES = tuple(replace(kind, stream=double.train) if kind is RUN else kind for kind in KINDS)
WORK = {"engine": Work(), "double": Work(double.warm, double.kernel, DOUBLES)}

if __name__ == "__main__":
    settings = Settings()
    app = create_app(settings, WORK[sys.argv[1]])
    server_of(app, settings).run()
