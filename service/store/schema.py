"""The tables, and the versions they went through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text
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
    Index("jobs_by_age", "kind", "created_at", "id"),
    Index("jobs_by_owner", "owner", "kind", "created_at", "id"),
    Index("jobs_by_content", "content", unique=True),
)

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

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

OWNED_BY_A_JOB = (events, quantities, checkpoints, idempotency_keys)

Migration = Callable[[sa.Connection], None]


def runs_become_jobs(connection: sa.Connection) -> None:
    """Version 2: the table of runs holds jobs of every kind. A new database has them already."""
    if not sa.inspect(connection).has_table("runs"):
        return
    connection.execute(sa.text("ALTER TABLE runs RENAME TO jobs"))
    connection.execute(sa.text("DROP INDEX runs_by_age"))
    for table in OWNED_BY_A_JOB:
        connection.execute(sa.text(f"ALTER TABLE {table.name} RENAME COLUMN run_id TO job_id"))
    for column in (jobs.c.kind, jobs.c.result, jobs.c.content, jobs.c.counts):
        _add_column(connection, column)
    _add_indexes(connection, "jobs_by_age", "jobs_by_content")


def jobs_have_owners(connection: sa.Connection) -> None:
    """Version 3: jobs belong to keys, and so do idempotency keys: `owner:key`, here of nobody."""
    if any(column["name"] == "owner" for column in sa.inspect(connection).get_columns("jobs")):
        return
    _add_column(connection, jobs.c.owner)
    _add_indexes(connection, "jobs_by_owner")
    connection.execute(sa.text("UPDATE idempotency_keys SET key = ':' || key"))


def _add_column(connection: sa.Connection, column: Column[Any]) -> None:
    added = CreateColumn(column).compile(dialect=connection.dialect)
    connection.execute(sa.text(f"ALTER TABLE {column.table.name} ADD COLUMN {added}"))


def _add_indexes(connection: sa.Connection, *names: str) -> None:
    for index in jobs.indexes:
        if index.name in names:
            index.create(connection)


# Migration i leads from version i to i + 1. The first makes today's tables; the others bring older databases
# there, and find nothing to do in a new one. One that has been released is never edited: add one.
MIGRATIONS: Sequence[Migration] = (metadata.create_all, runs_become_jobs, jobs_have_owners)


class SchemaTooNew(RuntimeError):
    """The database was written by a newer version of this program."""


def migrate(engine: sa.Engine) -> int:
    """Bring the database to this program's version in one transaction; return that version.

    Raises:
        SchemaTooNew: the database is ahead of this program.
    """
    with engine.begin() as connection:
        schema_version.create(connection, checkfirst=True)
        found = connection.scalar(sa.select(sa.func.max(schema_version.c.version))) or 0
        if found > len(MIGRATIONS):
            raise SchemaTooNew(
                f"database has schema {found}, this program knows {len(MIGRATIONS)}: upgrade it"
            )
        for version, step in enumerate(MIGRATIONS[found:], start=found + 1):
            step(connection)
            connection.execute(sa.insert(schema_version).values(version=version))
    return len(MIGRATIONS)
