"""The engine on the database: SQLite set up for durable concurrent use, others as they are."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

READ_ONLY = "ntk_read_only"


def connect(url: str) -> sa.Engine:
    """An engine on `url`; on SQLite with write-ahead log, full synchronisation and honest transactions."""
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def reader(engine: sa.Engine) -> sa.Engine:
    """The same engine for transactions that only read: they see one snapshot and never wait for a writer."""
    return engine.execution_options(**{READ_ONLY: True})


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own idea of when a transaction begins leaves reads outside; SQLAlchemy says it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes its lock at once: one that read first could no longer get it after another's commit.
    reads = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
