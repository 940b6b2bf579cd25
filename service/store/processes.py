"""Rows of the processes that share the database: who lives, and who no longer does."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from service.store.schema import processes


class Process(NamedTuple):
    """One of them; `beat` counts on while it lives, `left` says that it stopped in good order."""

    id: str
    beat: int
    left: bool


class ProcessStore:
    """The processes, in an SQL database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def count_on(self, process_id: str, at: str, *, left: bool = False) -> None:
        """The process lives, or leaves."""
        mine = sa.update(processes).where(processes.c.id == process_id)
        with self._engine.begin() as connection:
            changed = connection.execute(mine.values(beat=processes.c.beat + 1, seen_at=at, left=left))
            if changed.rowcount == 0:
                row = {"id": process_id, "beat": 0, "seen_at": at, "left": left}
                connection.execute(sa.insert(processes).values(row))

    def all(self) -> list[Process]:
        """All that are known."""
        query = sa.select(processes.c.id, processes.c.beat, processes.c.left)
        with self._engine.connect() as connection:
            return [Process(*row) for row in connection.execute(query)]

    def claim(self, process: Process) -> bool:
        """Whether it falls to the caller to look after what this process has left behind.

        True for one of those who ask, until the process counts as silent again.
        """
        silent = (processes.c.id == process.id, processes.c.beat == process.beat)
        update = sa.update(processes).where(*silent).values(beat=processes.c.beat + 1)
        with self._engine.begin() as connection:
            return connection.execute(update).rowcount == 1

    def forget(self, process_id: str, before: str) -> None:
        """Remove the process, if it was last seen before `before`."""
        old = (processes.c.id == process_id, processes.c.seen_at < before)
        with self._engine.begin() as connection:
            connection.execute(sa.delete(processes).where(*old))
