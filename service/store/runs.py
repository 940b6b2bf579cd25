"""Rows of runs, their events and their series. A change is one transaction that states what it expects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from service.encoding import dumps
from service.store.database import reader
from service.store.schema import OWNED_BY_A_RUN, checkpoints, events, idempotency_keys, quantities, runs

Row = Mapping[Any, Any]
Order = Literal["newest", "oldest"]


@dataclass(frozen=True)
class NewEvent:
    """An event about to be stored; `payload` and the values are JSON texts already."""

    kind: str
    step: int | None = None
    time: float | None = None
    payload: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)


class StoredEvent(NamedTuple):
    """An event as clients get it: `text` is its JSON."""

    seq: int
    kind: str
    text: str


class Checkpoint(NamedTuple):
    """Where a run can be taken up: the file's digest, and how many points precede it."""

    digest: str
    points: int


class Series(NamedTuple):
    """Some of the `total` values of one quantity; `every` is the distance between them."""

    total: int
    every: int
    steps: list[int | None]
    times: list[float]
    values: list[Any]


class KeyTaken(Exception):
    """The idempotency key is in use; `request_digest` and `run_id` say by what."""

    def __init__(self, request_digest: str, run_id: str) -> None:
        super().__init__("idempotency key in use")
        self.request_digest = request_digest
        self.run_id = run_id


class RunStore:
    """Runs in an SQL database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._write = engine
        self._read = reader(engine)

    def create(self, row: Row, key: tuple[str, str] | None = None) -> None:
        """Add a run, and with it `key`, an idempotency key and the digest of the request that brought it.

        Raises:
            KeyTaken: the key exists; nothing was added.
        """
        try:
            with self._write.begin() as connection:
                if key is not None:
                    values = {"key": key[0], "request_digest": key[1], "run_id": row["id"]}
                    connection.execute(sa.insert(idempotency_keys).values(values))
                connection.execute(sa.insert(runs).values(dict(row)))
        except sa.exc.IntegrityError:
            if key is None or (holder := self._holder(key[0])) is None:
                raise
            raise holder from None

    def _holder(self, key: str) -> KeyTaken | None:
        with self._read.connect() as connection:
            query = sa.select(idempotency_keys).where(idempotency_keys.c.key == key)
            found = connection.execute(query).mappings().first()
        return None if found is None else KeyTaken(found["request_digest"], found["run_id"])

    def get(self, run_id: str) -> Row | None:
        """The run's row, or None."""
        with self._read.connect() as connection:
            return connection.execute(sa.select(runs).where(runs.c.id == run_id)).mappings().first()

    def page(self, filters: Row, order: Order, after: tuple[str, str] | None, limit: int) -> Sequence[Row]:
        """At most `limit` runs whose columns equal `filters`, following the run with age and id `after`."""
        age = sa.tuple_(runs.c.created_at, runs.c.id)
        query = sa.select(runs).where(*(runs.c[name] == value for name, value in filters.items()))
        newest = order == "newest"
        if after is not None:
            bound = sa.tuple_(sa.literal(after[0]), sa.literal(after[1]))
            query = query.where(age < bound if newest else age > bound)
        columns = (runs.c.created_at, runs.c.id)
        query = query.order_by(*(c.desc() if newest else c.asc() for c in columns)).limit(limit)
        with self._read.connect() as connection:
            return connection.execute(query).mappings().all()

    def ids_with_status(self, statuses: Sequence[str]) -> list[str]:
        """The runs in one of these states, oldest first."""
        query = sa.select(runs.c.id).where(runs.c.status.in_(statuses)).order_by(runs.c.created_at)
        with self._read.connect() as connection:
            return list(connection.scalars(query))

    def advance(
        self,
        run_id: str,
        expect: Mapping[str, Sequence[Any]],
        changes: Row,
        new_events: Sequence[NewEvent] = (),
        *,
        at: str,
        checkpoint: str | None = None,
        keep: int = 2,
    ) -> bool:
        """Change a run and append its events, all or nothing, if its columns have an expected value.

        `checkpoint` is the digest of one that goes with the change; all but the newest `keep` are forgotten.

        Returns:
            whether they had; if not, nothing was written.
        """
        new_points = sum(event.kind == "point" for event in new_events)
        counts = {
            "next_seq": runs.c.next_seq + len(new_events),
            "points": runs.c.points + new_points,
        }
        update = (
            sa.update(runs)
            .where(runs.c.id == run_id, *(runs.c[c].in_(values) for c, values in expect.items()))
            .values({**changes, **counts})
            .returning(runs.c.next_seq, runs.c.points, runs.c.segment)
        )
        with self._write.begin() as connection:
            after = connection.execute(update).first()
            if after is None:
                return False
            _append(connection, run_id, after.next_seq - len(new_events), new_events, at)
            if checkpoint is not None:
                row = {"segment": after.segment, "digest": checkpoint, "points": after.points}
                connection.execute(sa.insert(checkpoints).values(run_id=run_id, **row))
                old = (checkpoints.c.run_id == run_id, checkpoints.c.segment <= after.segment - keep)
                connection.execute(sa.delete(checkpoints).where(*old))
        return True

    def checkpoints(self, run_id: str) -> list[Checkpoint]:
        """The run's checkpoints, newest first."""
        query = sa.select(checkpoints).where(checkpoints.c.run_id == run_id)
        with self._read.connect() as connection:
            rows = connection.execute(query.order_by(checkpoints.c.segment.desc())).all()
        return [Checkpoint(row.digest, row.points) for row in rows]

    def delete(self, run_id: str) -> None:
        """Remove the run and all that belongs to it."""
        with self._write.begin() as connection:
            for table in OWNED_BY_A_RUN:
                connection.execute(sa.delete(table).where(table.c.run_id == run_id))
            connection.execute(sa.delete(runs).where(runs.c.id == run_id))

    def events_after(self, run_id: str, seq: int, limit: int) -> list[StoredEvent]:
        """At most `limit` events that follow `seq`, in order."""
        query = sa.select(events).where(events.c.run_id == run_id, events.c.seq > seq)
        with self._read.connect() as connection:
            rows = connection.execute(query.order_by(events.c.seq).limit(limit)).all()
            if not rows:
                return []
            span = quantities.c.seq.between(rows[0].seq, rows[-1].seq)
            parts = sa.select(quantities.c.seq, quantities.c.what, quantities.c.payload)
            values: dict[int, dict[str, str]] = {}
            for part in connection.execute(parts.where(quantities.c.run_id == run_id, span)):
                values.setdefault(part.seq, {})[part.what] = part.payload
        return [StoredEvent(row.seq, row.kind, _text(row, values.get(row.seq, {}))) for row in rows]

    def series_names(self, run_id: str) -> list[str]:
        """The quantities that the run has recorded so far."""
        names: list[str] = []
        last = ""
        with self._read.connect() as connection:
            while True:  # one look-up per name: DISTINCT would read every row
                larger = (quantities.c.run_id == run_id, quantities.c.what > last)
                found = connection.scalar(sa.select(sa.func.min(quantities.c.what)).where(*larger))
                if found is None:
                    return names
                names.append(found)
                last = found

    def series(self, run_id: str, what: str, from_step: int, every: int, max_points: int) -> Series:
        """The quantity from `from_step` on, every `every`-th value, or more sparsely to stay in `max_points`.

        The first and the last value are always among them.
        """
        mine = (quantities.c.run_id == run_id, quantities.c.what == what)
        since = (*mine, quantities.c.step >= from_step) if from_step > 0 else mine
        with self._read.connect() as connection:
            # Two queries: asked for both at once, SQLite would read every row.
            first = connection.scalar(sa.select(sa.func.min(quantities.c.i)).where(*since))
            last = connection.scalar(sa.select(sa.func.max(quantities.c.i)).where(*since))
            if first is None or last is None:
                return Series(0, every, [], [], [])
            total = last - first + 1
            stride = max(every, -(-(total - 1) // max(1, max_points - 1)))
            kept = sa.or_((quantities.c.i - first) % stride == 0, quantities.c.i == last)
            query = sa.select(quantities).where(*mine, quantities.c.i >= first, kept)
            rows = connection.execute(query.order_by(quantities.c.i)).all()
        steps, times = [row.step for row in rows], [row.time for row in rows]
        return Series(total, stride, steps, times, [json.loads(row.payload) for row in rows])


def _append(
    connection: sa.Connection, run_id: str, first: int, new_events: Sequence[NewEvent], at: str
) -> None:
    if not new_events:
        return
    counted: dict[str, int] = {}
    rows, parts = [], []
    for seq, event in enumerate(new_events, start=first):
        place = {"run_id": run_id, "seq": seq, "step": event.step, "time": event.time}
        rows.append({**place, "kind": event.kind, "at": at, "payload": event.payload})
        for what, payload in event.values.items():
            if what not in counted:
                counted[what] = _recorded(connection, run_id, what)
            parts.append({**place, "what": what, "i": counted[what], "payload": payload})
            counted[what] += 1
    connection.execute(sa.insert(events), rows)
    if parts:
        connection.execute(sa.insert(quantities), parts)


def _recorded(connection: sa.Connection, run_id: str, what: str) -> int:
    mine = (quantities.c.run_id == run_id, quantities.c.what == what)
    last = connection.scalar(sa.select(sa.func.max(quantities.c.i)).where(*mine))
    return 0 if last is None else last + 1


def _text(row: Any, values: Mapping[str, str]) -> str:
    head = {"kind": row.kind, "seq": row.seq, "at": row.at}
    if row.payload is not None:
        return dumps({**head, **json.loads(row.payload)})
    place = dumps({**head, "step": row.step, "time": row.time}).removesuffix("}")
    return ",".join([place, *(f"{dumps(what)}:{payload}" for what, payload in values.items())]) + "}"
