"""A real server in a process of its own: `python -m tests.service.serve engine`, or `double`."""

from __future__ import annotations

import sys

import uvicorn

from service.app import Work, create_app
from service.settings import Settings
from tests.service import double

WORK = {"engine": Work(), "double": Work(double.warm, double.kernel, double.train)}

if __name__ == "__main__":
    settings = Settings()
    app = create_app(settings, WORK[sys.argv[1]])
    uvicorn.run(app, host=settings.host, port=settings.port, log_level="warning", timeout_graceful_shutdown=2)
