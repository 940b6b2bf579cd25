"""A process that computes and serves nobody: more of them, on more machines, take more jobs at a time."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.terminal import give_up, out, settings_from

if TYPE_CHECKING:
    from service.app import Work
    from service.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(worker)


def worker(
    data_dir: Annotated[
        Path | None, typer.Option(help="The directory that all machines share (NTK_DATA_DIR).")
    ] = None,
) -> None:
    """Take jobs from the queue of the database NTK_DATABASE_URL, until stopped; serve nothing."""
    from sqlalchemy.exc import SQLAlchemyError

    from service.store.database import is_shared

    settings = settings_from(data_dir=data_dir, work=True)
    if not is_shared(settings.resolved_database_url):
        raise give_up(
            "A worker shares a PostgreSQL database and a data directory with the service: set "
            "NTK_DATABASE_URL (postgresql://...) and NTK_DATA_DIR for both. With SQLite, `ntk serve` "
            "does all by itself."
        )
    try:
        work_until_stopped(settings)
    except (RuntimeError, ValueError, OSError, SQLAlchemyError) as error:
        raise give_up(f"The worker was not started: {error}") from None
    out.print("Stopped.")


def work_until_stopped(settings: Settings, work: Work | None = None) -> None:
    """Take jobs until SIGTERM or Ctrl-C; a second one ends the process at once.

    Raises:
        RuntimeError, OSError, SQLAlchemyError: the directory or the database cannot be used.
    """
    from service import logs
    from service.app import Parts, Work
    from service.metrics import Metrics

    stopping = threading.Event()

    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    logs.configure(settings.log_level, settings.log_format)
    parts = Parts(settings, work or Work(), Metrics())
    try:
        parts.start()
        out.print("The worker takes jobs (Ctrl-C stops it).")
        stopping.wait()
    finally:
        parts.stop()
