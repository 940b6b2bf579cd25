"""Rows of jobs, their events and their series. A change is one transaction that states what it expects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from service.encoding import dumps
from service.store.database import reader
from service.store.schema import OWNED_BY_A_JOB, checkpoints, events, idempotency_keys, jobs, quantities

Row = Mapping[Any, Any]

MOST_AT_ONCE = 2**20  # characters of values in one batch of events
Order = Literal["newest", "oldest"]


@dataclass(frozen=True)
class NewEvent:
    """An event about to be stored; `payload` and the values are JSON texts already."""

    kind: str
    step: int | None = None
    time: float | None = None
    payload: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Characters of what is stored."""
        return len(self.payload or "") + sum(map(len, self.values.values()))


class StoredEvent(NamedTuple):
    """An event as clients get it: `text` is its JSON."""

    seq: int
    kind: str
    at: str
    text: str


class Checkpoint(NamedTuple):
    """Where a job can be taken up: the file's digest, and how many points precede it."""

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
    """The idempotency key is in use; `request_digest` and `job_id` say by what."""

    def __init__(self, request_digest: str, job_id: str) -> None:
        super().__init__("idempotency key in use")
        self.request_digest = request_digest
        self.job_id = job_id


class TooMany(Exception):
    """The owner has `most` jobs of the kind that was limited."""

    def __init__(self, most: int) -> None:
        super().__init__("too many jobs")
        self.most = most


class TooMuchKept(Exception):
    """The owner's jobs take `kept` bytes of the disk, and with the new one more than `most`."""

    def __init__(self, kept: int, most: int) -> None:
        super().__init__("jobs take too much of the disk")
        self.kept = kept
        self.most = most


class Crowd(NamedTuple):
    """Of one owner's jobs, fewer than `most` may be in one of these states when another joins them."""

    statuses: Sequence[str]
    most: int


class ContentTaken(Exception):
    """Another job, `job_id`, stands for the same content."""

    def __init__(self, job_id: str) -> None:
        super().__init__("content in use")
        self.job_id = job_id


# The spec may hold large arrays: it is read only where it is wanted.
WITHOUT_SPEC = [column for column in jobs.c if column.name != "spec"]


class JobStore:
    """Jobs in an SQL database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._write = engine
        self._read = reader(engine)

    def create(
        self,
        row: Row,
        key: tuple[str, str] | None = None,
        crowd: Crowd | None = None,
        most_kept: int | None = None,
    ) -> None:
        """Add a job, and with it `key`, an idempotency key and the digest of the request that brought it.

        A job with an owner is added only if `crowd` lets it in, and if the disk that the owner's jobs take
        stays within `most_kept` bytes.

        Raises:
            TooMany: there are as many; nothing was added.
            TooMuchKept: they keep as much; nothing was added.
            KeyTaken: the key exists; nothing was added.
            ContentTaken: a job with the row's content exists; nothing was added.
        """
        try:
            with self._write.begin() as connection:
                if key is not None:
                    values = {"key": key[0], "request_digest": key[1], "job_id": row["id"]}
                    connection.execute(sa.insert(idempotency_keys).values(values))
                if row.get("owner") is not None:
                    _let_in(connection, row["owner"], crowd)
                    _check_kept(connection, row["owner"], row.get("disk_bytes") or 0, most_kept)
                connection.execute(sa.insert(jobs).values({**row, "stored": len(row["spec"])}))
        except sa.exc.IntegrityError:
            taken = self.key_taken(key) or self._content_taken(row.get("content"))
            if taken is None:
                raise
            raise taken from None

    def key_taken(self, key: tuple[str, str] | None) -> KeyTaken | None:
        """What has taken an idempotency key, given with a digest as for `create`; None if nothing has."""
        if key is None:
            return None
        query = sa.select(idempotency_keys).where(idempotency_keys.c.key == key[0])
        with self._read.connect() as connection:
            found = connection.execute(query).mappings().first()
        return None if found is None else KeyTaken(found["request_digest"], found["job_id"])

    def _content_taken(self, content: str | None) -> ContentTaken | None:
        found = None if content is None else self.with_content(content)
        return None if found is None else ContentTaken(found)

    def with_content(self, content: str) -> str | None:
        """The id of the job that stands for this content, or None."""
        with self._read.connect() as connection:
            found: str | None = connection.scalar(sa.select(jobs.c.id).where(jobs.c.content == content))
        return found

    def get(self, job_id: str) -> Row | None:
        """The job's row without its spec, or None."""
        with self._read.connect() as connection:
            return connection.execute(sa.select(*WITHOUT_SPEC).where(jobs.c.id == job_id)).mappings().first()

    def spec(self, job_id: str) -> str | None:
        """The job's spec as JSON, or None."""
        with self._read.connect() as connection:
            found: str | None = connection.scalar(sa.select(jobs.c.spec).where(jobs.c.id == job_id))
        return found

    def page(self, filters: Row, order: Order, after: tuple[str, str] | None, limit: int) -> Sequence[Row]:
        """At most `limit` jobs whose columns equal `filters`, following the job with age and id `after`."""
        age = sa.tuple_(jobs.c.created_at, jobs.c.id)
        query = sa.select(*WITHOUT_SPEC).where(*(jobs.c[name] == value for name, value in filters.items()))
        newest = order == "newest"
        if after is not None:
            bound = sa.tuple_(sa.literal(after[0]), sa.literal(after[1]))
            query = query.where(age < bound if newest else age > bound)
        columns = (jobs.c.created_at, jobs.c.id)
        query = query.order_by(*(c.desc() if newest else c.asc() for c in columns)).limit(limit)
        with self._read.connect() as connection:
            return connection.execute(query).mappings().all()

    def count_by_status(self) -> dict[str, int]:
        """How many jobs are in each state that any is in."""
        query = sa.select(jobs.c.status, sa.func.count().label("jobs")).group_by(jobs.c.status)
        with self._read.connect() as connection:
            return {row.status: row.jobs for row in connection.execute(query)}

    def count_of(self, owner: str | None, statuses: Sequence[str]) -> int:
        """How many of the owner's jobs are in one of these states."""
        with self._read.connect() as connection:
            return _count(connection, owner, statuses)

    def kept_by(self, owner: str | None) -> int:
        """Bytes that the owner's jobs take of the disk, or are planned to."""
        with self._read.connect() as connection:
            return _kept(connection, owner)

    def next_of(self, owner: str, status: str, limit: int) -> list[str]:
        """The owner's jobs in this state that are to begin first, at most `limit`."""
        mine = (jobs.c.owner == owner, jobs.c.status == status)
        query = sa.select(jobs.c.id).where(*mine).order_by(jobs.c.rank, jobs.c.created_at).limit(limit)
        with self._read.connect() as connection:
            return list(connection.scalars(query))

    def owners_with(self, status: str) -> list[str]:
        """Those who have jobs in this state."""
        query = sa.select(jobs.c.owner).where(jobs.c.status == status, jobs.c.owner.is_not(None))
        with self._read.connect() as connection:
            return list(connection.scalars(query.distinct()))

    def unmeasured(self, statuses: Sequence[str], limit: int) -> list[str]:
        """At most `limit` jobs in one of these states of which nobody knows what they take of the disk."""
        query = sa.select(jobs.c.id).where(jobs.c.status.in_(statuses), jobs.c.disk_bytes.is_(None))
        with self._read.connect() as connection:
            return list(connection.scalars(query.limit(limit)))

    def measure(self, job_id: str, file_bytes: int) -> None:
        """Note what the job takes of the disk, if nobody has: its files, and what is stored here."""
        mine = (jobs.c.id == job_id, jobs.c.disk_bytes.is_(None))
        with self._write.begin() as connection:
            connection.execute(sa.update(jobs).where(*mine).values(disk_bytes=jobs.c.stored + file_bytes))

    def oldest_with(self, status: str) -> str | None:
        """When the oldest job in this state was made."""
        query = sa.select(sa.func.min(jobs.c.created_at)).where(jobs.c.status == status)
        with self._read.connect() as connection:
            found: str | None = connection.scalar(query)
        return found

    def ids_with_status(self, statuses: Sequence[str]) -> list[str]:
        """The jobs in one of these states, oldest first."""
        query = sa.select(jobs.c.id).where(jobs.c.status.in_(statuses)).order_by(jobs.c.created_at)
        with self._read.connect() as connection:
            return list(connection.scalars(query))

    def ranks_with_status(self, statuses: Sequence[str]) -> dict[str, int]:
        """The ranks of the jobs in one of these states, oldest first."""
        query = sa.select(jobs.c.id, jobs.c.rank).where(jobs.c.status.in_(statuses))
        with self._read.connect() as connection:
            return {row.id: row.rank for row in connection.execute(query.order_by(jobs.c.created_at))}

    def take_turn(self, job_id: str, statuses: Sequence[str]) -> int | None:
        """The number of a new turn at a job in one of these states, None if it is in none.

        Who has an earlier turn can no longer change the job.
        """
        mine = (jobs.c.id == job_id, jobs.c.status.in_(statuses))
        update = sa.update(jobs).where(*mine).values(turn=jobs.c.turn + 1).returning(jobs.c.turn)
        with self._write.begin() as connection:
            number: int | None = connection.scalar(update)
        return number

    def ended_before(self, moment: str, statuses: Sequence[str], limit: int) -> list[str]:
        """At most `limit` jobs in these final states that ended before `moment`."""
        query = sa.select(jobs.c.id).where(jobs.c.status.in_(statuses), jobs.c.ended_at < moment)
        with self._read.connect() as connection:
            return list(connection.scalars(query.limit(limit)))

    def advance(
        self,
        job_id: str,
        expect: Mapping[str, Sequence[Any]],
        changes: Row,
        new_events: Sequence[NewEvent] = (),
        *,
        at: str,
        checkpoint: str | None = None,
        keep: int = 2,
        crowd: Crowd | None = None,
    ) -> bool:
        """Change a job and append its events, all or nothing, if its columns have an expected value.

        `checkpoint` is the digest of one that goes with the change; all but the newest `keep` are forgotten.
        A job with an owner is changed only if `crowd` lets it in.

        Returns:
            whether they had; if not, nothing was written.

        Raises:
            TooMany: there are as many; nothing was written.
        """
        new_points = sum(event.kind == "point" for event in new_events)
        counts = {
            "next_seq": jobs.c.next_seq + len(new_events),
            "points": jobs.c.points + new_points,
            "stored": jobs.c.stored + sum(event.size for event in new_events),
        }
        update = (
            sa.update(jobs)
            .where(jobs.c.id == job_id, *(jobs.c[c].in_(values) for c, values in expect.items()))
            .values({**changes, **counts})
            .returning(jobs.c.next_seq, jobs.c.points, jobs.c.segment)
        )
        with self._write.begin() as connection:
            if crowd is not None:
                owner = connection.scalar(sa.select(jobs.c.owner).where(jobs.c.id == job_id))
                _let_in(connection, owner, crowd)
            after = connection.execute(update).first()
            if after is None:
                return False
            _append(connection, job_id, after.next_seq - len(new_events), new_events, at)
            if checkpoint is not None:
                row = {"segment": after.segment, "digest": checkpoint, "points": after.points}
                connection.execute(sa.insert(checkpoints).values(job_id=job_id, **row))
                old = (checkpoints.c.job_id == job_id, checkpoints.c.segment <= after.segment - keep)
                connection.execute(sa.delete(checkpoints).where(*old))
        return True

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """The job's checkpoints, newest first."""
        query = sa.select(checkpoints).where(checkpoints.c.job_id == job_id)
        with self._read.connect() as connection:
            rows = connection.execute(query.order_by(checkpoints.c.segment.desc())).all()
        return [Checkpoint(row.digest, row.points) for row in rows]

    def delete(self, job_id: str) -> None:
        """Remove the job and all that belongs to it."""
        with self._write.begin() as connection:
            for table in OWNED_BY_A_JOB:
                connection.execute(sa.delete(table).where(table.c.job_id == job_id))
            connection.execute(sa.delete(jobs).where(jobs.c.id == job_id))

    def events_after(self, job_id: str, seq: int, limit: int) -> list[StoredEvent]:
        """The events that follow `seq`, in order: at most `limit`, and fewer where they carry much."""
        query = sa.select(events).where(events.c.job_id == job_id, events.c.seq > seq)
        with self._read.connect() as connection:
            rows = connection.execute(query.order_by(events.c.seq).limit(limit)).all()
            if not rows:
                return []
            values, last = _values(connection, job_id, rows[0].seq, rows[-1].seq)
        return [
            StoredEvent(row.seq, row.kind, row.at, _text(row, values.get(row.seq, {})))
            for row in rows
            if row.seq <= last
        ]

    def series_names(self, job_id: str) -> list[str]:
        """The quantities that the job has recorded so far."""
        names: list[str] = []
        last = ""
        with self._read.connect() as connection:
            while True:  # one look-up per name: DISTINCT would read every row
                larger = (quantities.c.job_id == job_id, quantities.c.what > last)
                found = connection.scalar(sa.select(sa.func.min(quantities.c.what)).where(*larger))
                if found is None:
                    return names
                names.append(found)
                last = found

    def series(self, job_id: str, what: str, from_step: int, every: int, max_points: int) -> Series:
        """The quantity from `from_step` on, every `every`-th value, or more sparsely to stay in `max_points`.

        The first and the last value are always among them.
        """
        mine = (quantities.c.job_id == job_id, quantities.c.what == what)
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


def _let_in(connection: sa.Connection, owner: str | None, crowd: Crowd | None) -> None:
    if owner is None or crowd is None:
        return
    _hold(connection, owner)
    if _count(connection, owner, crowd.statuses) >= crowd.most:
        raise TooMany(crowd.most)


def _check_kept(connection: sa.Connection, owner: str, added: float, most: int | None) -> None:
    if most is None:
        return
    _hold(connection, owner)
    kept = _kept(connection, owner)
    if kept + added > most:
        raise TooMuchKept(kept, most)


def _hold(connection: sa.Connection, owner: str) -> None:
    """Until the transaction ends, nobody else counts what this owner has."""
    if connection.dialect.name == "postgresql":  # where others could count at the same time
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(owner))))


def _count(connection: sa.Connection, owner: str | None, statuses: Sequence[str]) -> int:
    query = sa.select(sa.func.count()).where(jobs.c.owner == owner, jobs.c.status.in_(statuses))
    return int(connection.scalar(query) or 0)


def _kept(connection: sa.Connection, owner: str | None) -> int:
    return int(connection.scalar(sa.select(sa.func.sum(jobs.c.disk_bytes)).where(jobs.c.owner == owner)) or 0)


def _append(
    connection: sa.Connection, job_id: str, first: int, new_events: Sequence[NewEvent], at: str
) -> None:
    if not new_events:
        return
    counted: dict[str, int] = {}
    rows, parts = [], []
    for seq, event in enumerate(new_events, start=first):
        place = {"job_id": job_id, "seq": seq, "step": event.step, "time": event.time}
        rows.append({**place, "kind": event.kind, "at": at, "payload": event.payload})
        for what, payload in event.values.items():
            if what not in counted:
                counted[what] = _recorded(connection, job_id, what)
            parts.append({**place, "what": what, "i": counted[what], "payload": payload})
            counted[what] += 1
    connection.execute(sa.insert(events), rows)
    if parts:
        connection.execute(sa.insert(quantities), parts)


def _recorded(connection: sa.Connection, job_id: str, what: str) -> int:
    mine = (quantities.c.job_id == job_id, quantities.c.what == what)
    last = connection.scalar(sa.select(sa.func.max(quantities.c.i)).where(*mine))
    return 0 if last is None else last + 1


def _values(
    connection: sa.Connection, job_id: str, first: int, last: int
) -> tuple[dict[int, dict[str, str]], int]:
    """What was recorded at these events, and the last of them for which it was read: each reader who does not
    read on keeps this in memory."""
    query = sa.select(quantities.c.seq, quantities.c.what, quantities.c.payload)
    query = query.where(quantities.c.job_id == job_id, quantities.c.seq.between(first, last))
    query = query.order_by(quantities.c.seq).execution_options(stream_results=True)
    values: dict[int, dict[str, str]] = {}
    size = 0
    with connection.execute(query) as parts:
        for part in parts:
            if size > MOST_AT_ONCE and part.seq not in values:
                return values, part.seq - 1
            values.setdefault(part.seq, {})[part.what] = part.payload
            size += len(part.payload)
    return values, last


def _text(row: Any, values: Mapping[str, str]) -> str:
    head = {"kind": row.kind, "seq": row.seq, "at": row.at}
    if row.payload is not None:
        return dumps({**head, **json.loads(row.payload)})
    place = dumps({**head, "step": row.step, "time": row.time}).removesuffix("}")
    return ",".join([place, *(f"{dumps(what)}:{payload}" for what, payload in values.items())]) + "}"
