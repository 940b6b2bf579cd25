"""Who may do what to a run, and when."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool

from ntkengine.dynamics import RunSpec
from ntkengine.spec import to_jsonable
from service.compute.durable import DurableQueue
from service.compute.processes import RunProcesses
from service.encoding import dumps
from service.errors import Offence, ServiceError
from service.runs.clock import now
from service.runs.events import FINAL_KINDS, Cancelled
from service.runs.limits import check_model, check_run
from service.runs.notify import Notifier
from service.runs.states import ACTIVE, Status, sources
from service.settings import Settings
from service.store.files import Files
from service.store.runs import KeyTaken, Order, Row, RunStore, Series, StoredEvent

EVENTS_AT_ONCE = 500


class Page(NamedTuple):
    """Some runs, and the cursor of those that follow, if any do."""

    rows: list[Row]
    next_cursor: str | None


class Window(NamedTuple):
    """Which part of a run's series is wanted; `fields` None is all."""

    fields: list[str] | None
    from_step: int
    every: int
    max_points: int


class Runs:
    """The runs of this service."""

    def __init__(
        self,
        store: RunStore,
        files: Files,
        queue: DurableQueue,
        processes: RunProcesses,
        notifier: Notifier,
        settings: Settings,
    ) -> None:
        self._store = store
        self._files = files
        self._queue = queue
        self._processes = processes
        self._notifier = notifier
        self._settings = settings

    def recover(self) -> None:
        """Make sure that each run that has not ended is, or will be, worked on."""
        for run_id in self._store.ids_with_status(ACTIVE):
            self._queue.ensure(run_id)

    def submit(self, spec: RunSpec, experiment: str | None, key: str | None) -> Row:
        """A new run, or the run that the same request with the same key has brought before.

        Raises:
            EngineError: the spec does not hold together, or the work is over a limit.
            ServiceError: the key belongs to another request.
        """
        check_model(spec.model, self._settings)  # first: the rest takes longer the larger the network is
        spec.check()
        check_run(spec, self._settings)
        text = dumps(to_jsonable(spec))
        run_id = secrets.token_urlsafe(16)
        row = {
            "id": run_id,
            "status": Status.QUEUED,
            "experiment": experiment,
            "spec": text,
            "facts": dumps(spec.facts()),
            "created_at": now(),
        }
        digest = hashlib.sha256(f"{experiment}:{text}".encode()).hexdigest()
        try:
            self._store.create(row, None if key is None else (key, digest))
        except KeyTaken as taken:
            return self._replay(taken, digest)
        self._queue.submit(run_id)
        return self.get(run_id)

    def _replay(self, taken: KeyTaken, digest: str) -> Row:
        if taken.request_digest != digest:
            raise ServiceError("key-reused", "This Idempotency-Key came with another request before.")
        self._queue.ensure(taken.run_id)  # the server may have died between storing the run and queueing it
        return self.get(taken.run_id)

    def get(self, run_id: str) -> Row:
        """The run's row.

        Raises:
            ServiceError: there is no such run.
        """
        run = self._store.get(run_id)
        if run is None:
            raise ServiceError("not-found", "There is no run with this id.", hint="GET /runs lists the runs.")
        return run

    def page(self, filters: Mapping[str, str], order: Order, cursor: str | None, limit: int) -> Page:
        """Runs by age, at most `limit`, from the cursor on.

        Raises:
            ServiceError: the cursor is none that an earlier page gave.
        """
        after = None if cursor is None else _decode_cursor(cursor)
        rows = list(self._store.page(filters, order, after, limit + 1))
        more = len(rows) > limit
        return Page(rows[:limit], _encode_cursor(rows[limit - 1]) if more else None)

    def series(self, run_id: str, window: Window) -> dict[str, Series]:
        """Recorded quantities by name."""
        names = self._store.series_names(run_id)
        wanted = names if window.fields is None else [name for name in names if name in window.fields]
        return {
            name: self._store.series(run_id, name, window.from_step, window.every, window.max_points)
            for name in wanted
        }

    def array(self, run_id: str, digest: str) -> bytes:
        """The `.npy` bytes of a large recorded array."""
        self.get(run_id)
        try:
            return self._files.of(run_id).array_bytes(digest)
        except FileNotFoundError:
            raise ServiceError("not-found", "This run has no array with this digest.") from None

    async def follow(self, run_id: str, after: int, patience: float) -> AsyncIterator[list[StoredEvent]]:
        """The events that follow number `after`, as they come, until the run's last one.

        An empty batch means that nothing has happened for `patience` seconds.
        """
        with self._notifier.subscribe(run_id) as changed:
            while True:
                changed.clear()
                batch = await run_in_threadpool(self._store.events_after, run_id, after, EVENTS_AT_ONCE)
                if batch:
                    after = batch[-1].seq
                    yield batch
                    if batch[-1].kind in FINAL_KINDS:
                        return
                elif await run_in_threadpool(self.nothing_follows, run_id, after):
                    return
                elif not await _within(changed, patience):
                    yield []

    def nothing_follows(self, run_id: str, after: int) -> bool:
        """Whether there is no event after number `after`, nor will be."""
        # In this order: a run that ends between the two questions still has its last events read.
        return self.has_ended(run_id) and not self._store.events_after(run_id, after, 1)

    def has_ended(self, run_id: str) -> bool:
        """Whether nothing can follow: the run has ended, or was deleted."""
        run = self._store.get(run_id)
        return run is None or Status(run["status"]).is_final

    def cancel(self, run_id: str) -> Row:
        """Stop a run, at once.

        Raises:
            ServiceError: there is no such run, or it has ended.
        """
        self.get(run_id)
        if not self._cancel(run_id):
            status = self.get(run_id)["status"]
            raise ServiceError("already-ended", f"The run has ended: {status}.")
        return self.get(run_id)

    def _cancel(self, run_id: str) -> bool:
        changes = {"status": Status.CANCELLED, "ended_at": now()}
        expect = {"status": sources(Status.CANCELLED)}
        cancelled = self._store.advance(run_id, expect, changes, [Cancelled().to_store()], at=now())
        if cancelled:
            self._notifier.notify(run_id)
            self._processes.stop(run_id)
        return cancelled

    def delete(self, run_id: str) -> None:
        """Stop a run and forget all of it.

        Raises:
            ServiceError: there is no such run.
        """
        self.get(run_id)
        self._cancel(run_id)
        self._processes.stop(run_id)
        self._queue.forget(run_id)
        self._store.delete(run_id)
        self._files.of(run_id).delete()
        self._notifier.notify(run_id)


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
        created_at, run_id = found
        return str(created_at), str(run_id)
    except (ValueError, TypeError, binascii.Error):
        hint = "Use the `next` of the page before, or leave it out to begin."
        wrong = Offence(pointer="cursor", detail="This is no cursor of ours.", got=cursor[:80], hint=hint)
        raise ServiceError("invalid", "The cursor cannot be read.", offences=[wrong]) from None
