"""The tables, and the versions they went through."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
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
    # How far it is. `segment` counts commits and is the fence: who expects another value has been overtaken.
    Column("segment", Integer, nullable=False, default=0),
    Column("next_seq", BigInteger, nullable=False, default=0),
    Column("points", BigInteger, nullable=False, default=0),
    Column("progress", Float, nullable=False, default=0.0),
    Column("step", BigInteger),
    Column("time", Float),
    Column("seconds_left", Float),
    Column("crashes", Integer, nullable=False, default=0),
    Index("runs_by_age", "created_at", "id"),
)

events = Table(
    "events",
    metadata,
    Column("run_id", Text, primary_key=True),
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
    Column("run_id", Text, primary_key=True),
    Column("what", Text, primary_key=True),
    Column("i", BigInteger, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("step", BigInteger),
    Column("time", Float, nullable=False),
    Column("payload", Text, nullable=False),
    Index("quantities_by_seq", "run_id", "seq"),
    sqlite_with_rowid=False,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("segment", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("points", BigInteger, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("request_digest", Text, nullable=False),
    Column("run_id", Text, nullable=False, index=True),
)

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

OWNED_BY_A_RUN = (events, quantities, checkpoints, idempotency_keys)

Migration = Callable[[sa.Connection], None]
# Migration i leads from version i to i + 1 and is never edited once released: add one.
MIGRATIONS: Sequence[Migration] = (metadata.create_all,)


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
