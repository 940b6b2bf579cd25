"""The engine on the database: SQLite set up for durable concurrent use, PostgreSQL for many processes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

READ_ONLY = "ntk_read_only"

# The database is away, restarts, or is out of something: to be tried again. Not what a statement did wrong.
TRANSIENT = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.InternalError,  # which is how the end of a session comes that was idle in a transaction
    sa.exc.TimeoutError,
)

# After how long a connection counts as lost when the network says nothing; seconds, but for the last.
PATIENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    # A process that is stopped in the middle of a transaction must not keep others from the rows it holds.
    "options": "-c idle_in_transaction_session_timeout=5000",
}


def is_shared(url: str) -> bool:
    """Whether several processes may work on the database at `url`."""
    return sa.make_url(url).get_backend_name() == "postgresql"


def with_patience(url: str) -> str:
    """The same database; on PostgreSQL with limits on how long a lost connection is waited for."""
    found = sa.make_url(url)
    if found.get_backend_name() != "postgresql":
        return url
    patient = found.set(drivername="postgresql+psycopg", query={**PATIENCE, **found.query})
    return patient.render_as_string(hide_password=False)


def connect(url: str, connections: int = 10) -> sa.Engine:
    """An engine on `url`; on SQLite with write-ahead log, full synchronisation and honest transactions.

    Args:
        url: of an SQLite file or a PostgreSQL database.
        connections: the most that PostgreSQL is asked for.
    """
    if is_shared(url):
        return sa.create_engine(with_patience(url), pool_pre_ping=True, pool_size=connections, max_overflow=0)
    engine = sa.create_engine(url)
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
