"""The tables, and the versions they went through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, Text
from sqlalchemy.schema import CreateColumn

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False, server_default="run"),
    Column("owner", Text),  # the name of the key that brought it; null where there were no keys
    Column("status", Text, nullable=False),
    Column("outcome", Text),
    Column("experiment", Text),
    # Its place in the queue, should it be queued again: lower ones begin first.
    Column("rank", Integer, nullable=False, server_default="1000000"),
    # What it takes of the disk: planned until it has ended, measured afterwards, null in between.
    Column("disk_bytes", BigInteger),
    # What of that is in this database: characters of its spec and of what it recorded.
    Column("stored", BigInteger, nullable=False, server_default="0"),
    Column("spec", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("started_at", Text),
    Column("ended_at", Text),
    Column("error", Text),
    Column("detail", Text),
    Column("result", Text),
    # Names what is computed, while the job stands for it: another request for the same finds it here.
    Column("content", Text),
    # How far it is. `segment` counts commits and is the fence: who expects another value has been overtaken.
    Column("segment", Integer, nullable=False, default=0),
    Column("next_seq", BigInteger, nullable=False, default=0),
    Column("points", BigInteger, nullable=False, default=0),
    Column("progress", Float, nullable=False, default=0.0),
    Column("step", BigInteger),
    Column("time", Float),
    Column("seconds_left", Float),
    Column("counts", Text),
    Column("crashes", Integer, nullable=False, default=0),
    # Counts the processes that took it up, one after another. The other fence: only the last one may write.
    Column("turn", Integer, nullable=False, default=0, server_default="0"),
    Index("jobs_by_age", "kind", "created_at", "id"),
    Index("jobs_by_owner", "owner", "kind", "created_at", "id"),
    Index("jobs_by_content", "content", unique=True),
    Index("jobs_by_disk", "owner", "disk_bytes"),
)
UNMEASURED = jobs.c.disk_bytes.is_(None)
Index("jobs_unmeasured", jobs.c.id, sqlite_where=UNMEASURED, postgresql_where=UNMEASURED)

events = Table(
    "events",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("step", BigInteger),
    Column("time", Float),
    Column("payload", Text),
    sqlite_with_rowid=False,
)

# Step and time are repeated here so that one series is read and thinned without touching the events.
quantities = Table(
    "quantities",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("what", Text, primary_key=True),
    Column("i", BigInteger, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("step", BigInteger),
    Column("time", Float, nullable=False),
    Column("payload", Text, nullable=False),
    Index("quantities_by_seq", "job_id", "seq"),
    sqlite_with_rowid=False,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("segment", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("points", BigInteger, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("request_digest", Text, nullable=False),
    Column("job_id", Text, nullable=False, index=True),
)

# The processes that share this database. Each counts on while it lives, the others watch.
processes = Table(
    "processes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("beat", BigInteger, nullable=False),
    Column("seen_at", Text, nullable=False),
    Column("left", Boolean, nullable=False),
)

# For how long processes computed for a key, by days of UTC. It outlives the jobs: they can be deleted.
usage = Table(
    "usage",
    metadata,
    Column("owner", Text, primary_key=True),  # empty where there were no keys
    Column("day", Text, primary_key=True),
    Column("seconds", Float, nullable=False),
)

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

OWNED_BY_A_JOB = (events, quantities, checkpoints, idempotency_keys)

Migration = Callable[[sa.Connection], None]


def runs_become_jobs(connection: sa.Connection) -> None:
    """Version 2: the table of runs holds jobs of every kind."""
    connection.execute(sa.text("ALTER TABLE runs RENAME TO jobs"))
    connection.execute(sa.text("DROP INDEX runs_by_age"))
    for table in OWNED_BY_A_JOB:
        connection.execute(sa.text(f"ALTER TABLE {table.name} RENAME COLUMN run_id TO job_id"))
    for column in (jobs.c.kind, jobs.c.result, jobs.c.content, jobs.c.counts):
        _add_column(connection, column)
    _add_indexes(connection, "jobs_by_age", "jobs_by_content")


def jobs_have_owners(connection: sa.Connection) -> None:
    """Version 3: jobs belong to keys, and so do idempotency keys: `owner:key`, here of nobody."""
    _add_column(connection, jobs.c.owner)
    _add_indexes(connection, "jobs_by_owner")
    connection.execute(sa.text("UPDATE idempotency_keys SET key = ':' || key"))


def processes_are_several(connection: sa.Connection) -> None:
    """Version 4: who computes a job may change, and those who do know of each other."""
    _add_column(connection, jobs.c.turn)
    processes.create(connection)


def keys_have_limits(connection: sa.Connection) -> None:
    """Version 5: what the jobs of a key take is known, and which of them is the next."""
    for column in (jobs.c.rank, jobs.c.disk_bytes, jobs.c.stored):
        _add_column(connection, column)
    _add_indexes(connection, "jobs_by_disk", "jobs_unmeasured")
    usage.create(connection)


def _add_column(connection: sa.Connection, column: Column[Any]) -> None:
    added = CreateColumn(column).compile(dialect=connection.dialect)
    connection.execute(sa.text(f"ALTER TABLE {column.table.name} ADD COLUMN {added}"))


def _add_indexes(connection: sa.Connection, *names: str) -> None:
    for index in jobs.indexes:
        if index.name in names:
            index.create(connection)


# They bring older databases from version 1 on to today's tables, one version each; a new database begins with
# today's. One that has been released is never edited: add one.
MIGRATIONS: Sequence[Migration] = (
    runs_become_jobs,
    jobs_have_owners,
    processes_are_several,
    keys_have_limits,
)
VERSION = 1 + len(MIGRATIONS)
MIGRATING = 7_236_001  # the lock's number means nothing


class SchemaTooNew(RuntimeError):
    """The database was written by a newer version of this program."""


def migrate(engine: sa.Engine) -> int:
    """Bring the database to this program's version in one transaction; return that version.

    Raises:
        SchemaTooNew: the database is ahead of this program.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # SQLite's transactions exclude each other anyway
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATING)))
        schema_version.create(connection, checkfirst=True)
        found = connection.scalar(sa.select(sa.func.max(schema_version.c.version)))
        if found is None:
            metadata.create_all(connection)
        else:
            _upgrade(connection, found)
        if found != VERSION:
            connection.execute(sa.insert(schema_version).values(version=VERSION))
    return VERSION


def _upgrade(connection: sa.Connection, found: int) -> None:
    if found > VERSION:
        raise SchemaTooNew(f"database has schema {found}, this program knows {VERSION}: upgrade it")
    for step in MIGRATIONS[found - 1 :]:
        step(connection)
