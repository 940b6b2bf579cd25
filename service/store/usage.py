"""For how long processes computed for whom, by days."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.store.database import reader
from service.store.schema import usage

# Both add to what is there in one statement, which SQL itself has no words for.
INSERT = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


class UsageStore:
    """Seconds by owner and day in an SQL database; who has no name is the empty one."""

    def __init__(self, engine: sa.Engine) -> None:
        self._write = engine
        self._read = reader(engine)

    def add(self, day: str, seconds: Mapping[str, float]) -> None:
        """Count these seconds, by owner, to a day; all or none."""
        insert: Any = INSERT[self._write.dialect.name](usage)
        more = insert.on_conflict_do_update(
            index_elements=[usage.c.owner, usage.c.day],
            set_={"seconds": usage.c.seconds + insert.excluded.seconds},
        )
        # In one order, so that two processes never wait for each other's rows in turns.
        rows = [{"owner": owner, "day": day, "seconds": seconds[owner]} for owner in sorted(seconds)]
        with self._write.begin() as connection:
            connection.execute(more, rows)

    def seconds(self, owner: str, day: str) -> float:
        """What was counted for this owner that day."""
        query = sa.select(usage.c.seconds).where(usage.c.owner == owner, usage.c.day == day)
        with self._read.connect() as connection:
            return float(connection.scalar(query) or 0.0)
