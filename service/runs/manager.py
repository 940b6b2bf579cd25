"""Who may do what to a job, and when."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import math
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool

from ntkengine.spec import to_jsonable
from service.access.keys import ANYONE, Principal, Scope
from service.access.quotas import Quota, no_room
from service.compute.durable import DurableQueue
from service.compute.processes import JobProcesses
from service.encoding import dumps
from service.errors import Offence, ServiceError
from service.runs.clock import days_ago, now
from service.runs.events import FINAL_KINDS, Cancelled
from service.runs.kinds import JobKind
from service.runs.notify import Notifier
from service.runs.places import Places
from service.runs.states import ACTIVE, ENDED, Status, sources
from service.runs.usage import Usage
from service.settings import Settings
from service.store.database import TRANSIENT
from service.store.files import Files, JobFiles
from service.store.jobs import (
    ContentTaken,
    Crowd,
    JobStore,
    KeyTaken,
    Order,
    Row,
    Series,
    StoredEvent,
    TooMany,
    TooMuchKept,
)

EVENTS_AT_ONCE = 500
ORDINARY = 10**6  # ranks begin at 1
RANKS = 10**5
AT_ONCE = 100
TRY_AGAIN_SECONDS = 5  # nobody knows when one of the owner's jobs will end
RESERVED_BYTES = 100 * 2**20  # of the disk, for the database and what else is going on


class Priority(StrEnum):
    """Which jobs are begun first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """Of the first job that has it; ranks of one priority are so many."""
        return ORDINARY + RANKS * (list(Priority).index(self) - 1)


class Page(NamedTuple):
    """Some jobs, and the cursor of those that follow, if any do."""

    rows: list[Row]
    next_cursor: str | None


class Window(NamedTuple):
    """Which part of a job's series is wanted; `fields` None is all."""

    fields: list[str] | None
    from_step: int
    every: int
    max_points: int


@dataclass(frozen=True)
class Backend:
    """What jobs of all kinds are kept in, and computed by."""

    store: JobStore
    files: Files
    queue: DurableQueue
    processes: JobProcesses
    notifier: Notifier
    places: Places
    usage: Usage
    settings: Settings

    def recover(self) -> None:
        """Make sure that each job that has not ended will be worked on, and that all others are measured."""
        self.queue.ensure_all(self.store.ranks_with_status(ACTIVE))
        self.places.call_all()
        while unknown := self.store.unmeasured(ENDED, AT_ONCE):
            for job_id in unknown:
                self.measure(job_id)

    def measure(self, job_id: str) -> None:
        """Find out what a job that has ended takes of the disk."""
        self.store.measure(job_id, self.files.of(job_id).size())

    def forget(self, job_id: str) -> None:
        """Stop computing the job, and remove all of it."""
        self.processes.stop(job_id)
        self.notifier.stop_elsewhere(job_id)
        self.queue.forget(job_id)
        self.files.of(job_id).delete()
        self.store.delete(job_id)  # last: until then it can be asked again to be removed
        self.notifier.notify(job_id)

    def expire(self, days: float) -> None:
        """Remove the jobs that ended so many days ago."""
        while old := self.store.ended_before(days_ago(days), ENDED, AT_ONCE):
            for job_id in old:
                self.forget(job_id)


class Jobs:
    """The jobs of one kind, as `asker` sees them: others are not found here."""

    def __init__(self, kind: JobKind, backend: Backend, asker: Principal = ANYONE) -> None:
        self.kind = kind
        self._backend = backend
        self._asker = asker
        self._store = backend.store
        self._files = backend.files
        self._queue = backend.queue
        self._processes = backend.processes
        self._notifier = backend.notifier
        self._settings = backend.settings

    def seen_by(self, asker: Principal) -> Jobs:
        """The same jobs, of which only the asker's are found unless they may see all."""
        return Jobs(self.kind, self._backend, asker)

    def submit(
        self,
        spec: Any,
        *,
        experiment: str | None = None,
        key: str | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Row:
        """A new job; or one that the same request with the same key, or for the same content, has brought.

        Raises:
            EngineError: the spec does not hold together, or the work is over a limit.
            ServiceError: the key belongs to another request, the asker has reached a limit, or the disk has
                too little room.
        """
        self.kind.check(spec, self._settings)
        text = dumps(to_jsonable(spec))
        owner = self._asker.name
        content = self.kind.content(self.kind.name, owner, text)
        if content is not None and (found := self._store.with_content(content)) is not None:
            return self._again(found)
        digest = hashlib.sha256(f"{experiment}:{text}".encode()).hexdigest()
        names = None if key is None else (f"{owner or ''}:{key}", digest)  # owners have no colon
        if (earlier := self._store.key_taken(names)) is not None:  # whatever limit is reached by now
            return self._replay(earlier, digest)
        self._backend.usage.check(owner)
        planned = self.kind.disk_bytes(spec)
        self._check_room(planned)
        job_id, rank = secrets.token_urlsafe(16), self._rank(priority)
        row = {
            "id": job_id,
            "kind": self.kind.name,
            "owner": owner,
            "status": Status.QUEUED,
            "experiment": experiment,
            "rank": rank,
            "disk_bytes": math.ceil(planned) + len(text),
            "spec": text,
            "content": content,
            "facts": dumps(self.kind.facts(spec, self._settings)),
            "created_at": now(),
        }
        try:
            self._create(row, names)
        except KeyTaken as taken:
            return self._replay(taken, digest)
        except ContentTaken as taken:
            return self._again(taken.job_id)
        self._queue.submit(job_id, rank)
        return self.get(job_id)

    def _create(self, row: Row, names: tuple[str, str] | None) -> None:
        crowd = Crowd(ACTIVE, self._settings.jobs_per_key)
        try:
            self._store.create(row, names, crowd, self._settings.job_disk_bytes_per_key)
        except TooMany as found:
            raise Quota("jobs", found.most, 0, "concurrent-requests").refusal(
                f"The key {row['owner']} has {found.most} jobs that have not ended.",
                again_in=TRY_AGAIN_SECONDS,
                hint="Wait until one of them has ended, or cancel one.",
                used={"jobs": found.most},
                limit={"jobs": found.most},
            ) from None
        except TooMuchKept as found:
            raise no_room("jobs", found.kept, row["disk_bytes"], found.most) from None

    def _rank(self, priority: Priority) -> int:
        """Higher priorities first; among equals those whose key has the fewest jobs that have not ended."""
        owner = self._asker.name
        others = 0 if owner is None else 1 + self._store.count_of(owner, ACTIVE)
        return priority.rank + min(others, RANKS - 1)

    def _check_room(self, needed: float) -> None:
        free = shutil.disk_usage(self._settings.data_dir).free - RESERVED_BYTES
        if needed > free:
            raise ServiceError(
                "insufficient-storage",
                f"The job writes about {needed:,.0f} bytes; {max(0, free):,} are free.",
                estimate={"disk_bytes": needed},
                limit={"disk_bytes": max(0, free)},
            )

    def _replay(self, taken: KeyTaken, digest: str) -> Row:
        if taken.request_digest != digest:
            raise ServiceError("key-reused", "This Idempotency-Key came with another request before.")
        return self._again(taken.job_id)

    def _again(self, job_id: str) -> Row:
        job = self.get(job_id)
        if not Status(job["status"]).is_final:
            # The server may have died between storing the job and queueing it.
            self._queue.ensure(job_id, job["rank"])
        return job

    def get(self, job_id: str) -> Row:
        """The job's row, without its spec.

        Raises:
            ServiceError: there is no such job of this kind, or it is somebody else's.
        """
        job = self._store.get(job_id)
        if job is None or any(job[name] != value for name, value in self._ours().items()):
            hint = f"GET {self.kind.path} lists those there are."
            raise ServiceError("not-found", f"There is no {self.kind.name} with this id.", hint=hint)
        return job

    def _ours(self) -> dict[str, str | None]:
        """What the columns of jobs have that are found here."""
        theirs = {} if self._asker.may(Scope.ADMIN) else {"owner": self._asker.name}
        return {"kind": self.kind.name, **theirs}

    def spec(self, job_id: str) -> Any:
        """The job's spec, JSON-able, with the defaults filled in."""
        return json.loads(self._store.spec(job_id) or "null")

    def files(self, job_id: str) -> JobFiles:
        """The job's files."""
        return self._files.of(job_id)

    def page(self, filters: Mapping[str, str], order: Order, cursor: str | None, limit: int) -> Page:
        """Jobs by age, at most `limit`, from the cursor on.

        Raises:
            ServiceError: the cursor is none that an earlier page gave.
        """
        after = None if cursor is None else _decode_cursor(cursor)
        rows = list(self._store.page({**filters, **self._ours()}, order, after, limit + 1))
        more = len(rows) > limit
        return Page(rows[:limit], _encode_cursor(rows[limit - 1]) if more else None)

    def series(self, job_id: str, window: Window) -> dict[str, Series]:
        """Recorded quantities by name."""
        names = self._store.series_names(job_id)
        wanted = names if window.fields is None else [name for name in names if name in window.fields]
        return {
            name: self._store.series(job_id, name, window.from_step, window.every, window.max_points)
            for name in wanted
        }

    def array(self, job_id: str, digest: str) -> bytes:
        """The `.npy` bytes of a large recorded array."""
        self.get(job_id)
        try:
            return self._files.of(job_id).array_bytes(digest)
        except FileNotFoundError:
            raise ServiceError("not-found", "This job has no array with this digest.") from None

    async def follow(self, job_id: str, after: int, patience: float) -> AsyncIterator[list[StoredEvent]]:
        """The events that follow number `after`, as they come, until the job's last one.

        An empty batch means that nothing has happened for `patience` seconds.
        """
        with self._notifier.subscribe(job_id) as changed:
            ended = False
            while not ended:
                changed.clear()
                batch, ended = await run_in_threadpool(self._news, job_id, after)
                if batch:
                    after = batch[-1].seq
                    yield batch
                elif not ended and not await _within(changed, patience):
                    yield []

    def _news(self, job_id: str, after: int) -> tuple[list[StoredEvent], bool]:
        """The next events, and whether nothing will follow them."""
        try:
            batch = self._store.events_after(job_id, after, EVENTS_AT_ONCE)
            if batch:
                return batch, batch[-1].kind in FINAL_KINDS
            return [], self.nothing_follows(job_id, after)
        except TRANSIENT:  # the database restarts: a reader need not know
            return [], False

    def nothing_follows(self, job_id: str, after: int) -> bool:
        """Whether there is no event after number `after`, nor will be."""
        # In this order: a job that ends between the two questions still has its last events read.
        return self.has_ended(job_id) and not self._store.events_after(job_id, after, 1)

    def has_ended(self, job_id: str) -> bool:
        """Whether nothing can follow: the job has ended, or was deleted."""
        job = self._store.get(job_id)
        return job is None or Status(job["status"]).is_final

    def cancel(self, job_id: str) -> Row:
        """Stop a job, at once.

        Raises:
            ServiceError: there is no such job, or it has ended.
        """
        if not self._cancel(self.get(job_id)):
            status = self.get(job_id)["status"]
            raise ServiceError("already-ended", f"The {self.kind.name} has ended: {status}.")
        return self.get(job_id)

    def _cancel(self, job: Row) -> bool:
        job_id = job["id"]
        changes = {"status": Status.CANCELLED, "ended_at": now(), "content": None, "disk_bytes": None}
        expect = {"status": sources(Status.CANCELLED)}
        cancelled = self._store.advance(job_id, expect, changes, [Cancelled().to_store()], at=now())
        if cancelled:
            self._notifier.notify(job_id)
            self._processes.stop(job_id)
            self._notifier.stop_elsewhere(job_id)
            self._backend.measure(job_id)
            self._backend.places.call(job["owner"])
        return cancelled

    def delete(self, job_id: str) -> None:
        """Stop a job and forget all of it.

        Raises:
            ServiceError: there is no such job.
        """
        self._cancel(self.get(job_id))
        self._backend.forget(job_id)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _encode_cursor(row: Row) -> str:
    return base64.urlsafe_b64encode(dumps([row["created_at"], row["id"]]).encode()).decode()


def _decode_cursor(cursor: str) -> tuple[str, str]:
    try:
        found: Any = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        created_at, job_id = found
        return str(created_at), str(job_id)
    except (ValueError, TypeError, binascii.Error):
        hint = "Use the `next` of the page before, or leave it out to begin."
        wrong = Offence(pointer="cursor", detail="This is no cursor of ours.", got=cursor[:80], hint=hint)
        raise ServiceError("invalid", "The cursor cannot be read.", offences=[wrong]) from None
