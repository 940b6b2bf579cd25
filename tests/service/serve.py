"""A real server in a process of its own: `python -m tests.service.serve engine`, or `double`.

With `NTK_TEST_UPGRADE` it is a newer program, whose tables have one more version.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import sqlalchemy as sa

import service.app
from service.app import Work, create_app
from service.runs.kinds import KINDS, RUN
from service.serving import server_of
from service.settings import Settings
from service.store import schema
from tests.service import double

DOUBLES = tuple(replace(kind, stream=double.train) if kind is RUN else kind for kind in KINDS)
WORK = {"engine": Work(), "double": Work(double.warm, double.kernel, DOUBLES)}


def jobs_have_notes(connection: sa.Connection) -> None:
    """A migration as the next release may have one."""
    connection.execute(sa.text("ALTER TABLE jobs ADD COLUMN notes TEXT"))
    connection.execute(sa.text("CREATE INDEX jobs_by_notes ON jobs (notes)"))


def become_newer_if_asked() -> None:
    """Be the next release, where the test's settings say so."""
    if "NTK_TEST_UPGRADE" not in os.environ:
        return
    schema.MIGRATIONS = (*schema.MIGRATIONS, jobs_have_notes)
    schema.VERSION += 1
    service.app.VERSION = f"{service.app.VERSION}.next"


def main(work: str) -> None:
    """Serve until told to stop."""
    become_newer_if_asked()
    settings = Settings()
    app = create_app(settings, WORK[work])
    server_of(app, settings).run()


if __name__ == "__main__":
    main(sys.argv[1])
