"""Driving a job's process: commit each segment, wake the readers, take it up again after a crash."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.compute.processes import JobProcesses, ShuttingDown
from service.compute.worker import TaskFailed, Worker, WorkerDied
from service.encoding import Message, dumps
from service.errors import from_parts
from service.metrics import Metrics
from service.runs.clock import now, seconds_since
from service.runs.events import Event, Failed, Finished, JobError, Progress, Started
from service.runs.kinds import JobKind
from service.runs.notify import Notifier
from service.runs.places import Places
from service.runs.states import ACTIVE, Status, sources
from service.runs.usage import Usage
from service.store.database import TRANSIENT
from service.store.files import Files
from service.store.jobs import Checkpoint, Crowd, JobStore, NewEvent, Row, TooMany

logger = logging.getLogger(__name__)

# The newest and, should that be damaged, the one before.
KEPT_CHECKPOINTS = 2
PLACE = ("step", "time")
RETRY_SECONDS = 0.5
NO_ROOM = "insufficient_storage"
ROOM_SECONDS = 2.0
UNMEASURED: Row = {"disk_bytes": None}  # what was planned holds no longer


class Overtaken(Exception):
    """The job is no longer ours to change: cancelled, deleted, or driven by someone else."""


class Turn(NamedTuple):
    """The right to change a job; it is lost to whoever takes a later one."""

    job_id: str
    number: int


@dataclass(frozen=True)
class Policy:
    """What an operator decides about jobs."""

    segment_seconds: float
    crashes_allowed: int
    job_seconds: float | None = None


class Supervisor:
    """Called with a job's id, drives it to its end; called again after a crash of the server, goes on."""

    def __init__(
        self,
        store: JobStore,
        files: Files,
        processes: JobProcesses,
        notifier: Notifier,
        kinds: Iterable[JobKind],
        policy: Policy,
        metrics: Metrics,
        places: Places,
        usage: Usage,
    ) -> None:
        self._store = store
        self._files = files
        self._processes = processes
        self._notifier = notifier
        self._streams = {kind.name: kind.stream for kind in kinds}
        self._paths = {kind.name: kind.path for kind in kinds}
        self._policy = policy
        self._metrics = metrics
        self._places = places
        self._usage = usage

    def __call__(self, job_id: str) -> None:
        """Return when the job has ended, or somebody else has taken it over.

        Raises:
            ShuttingDown: the server stops.
            SetAside: as many jobs of the key compute as may.
        """
        while True:
            try:
                with suppress(Overtaken):
                    self._drive_to_end(job_id)
                return self._settle(job_id)
            except TRANSIENT as error:
                # Whether the last change was made is for the database to say: begin again from there.
                logger.warning("job %s waits for the database: %s", job_id, error)
                self._processes.pause(RETRY_SECONDS)

    def _drive_to_end(self, job_id: str) -> None:
        number = self._store.take_turn(job_id, ACTIVE)
        if number is None:
            raise Overtaken
        turn = Turn(job_id, number)
        try:
            self._begin(turn)
            job = self._get(job_id)
            limit = TimeLimit(self._policy.job_seconds, job["started_at"])
            while self._get(job_id)["status"] == Status.RUNNING:
                self._attempt(turn, limit, job["owner"])
        except (Overtaken, *TRANSIENT):
            raise
        except Exception:
            logger.exception("job %s cannot be driven", job_id)
            self._fail(turn, JobError(category="internal", detail="The service failed to drive the job."))

    def _settle(self, job_id: str) -> None:
        """After a job's end: say what it keeps, and have the next one of its key begin."""
        job = self._store.get(job_id)
        if job is not None and Status(job["status"]).is_final:
            self._store.measure(job_id, self._files.of(job_id).size())
            self._places.call(job["owner"])

    def _begin(self, turn: Turn) -> None:
        job = self._get(turn.job_id)
        if job["status"] == Status.RUNNING:
            self._metrics.recoveries.inc()
            return
        changes = {"status": Status.RUNNING, "started_at": now()}
        started = Started(**json.loads(job["facts"]))
        try:
            self._enter(turn, Status.RUNNING, changes, started, self._places.crowd)
        except TooMany:
            self._places.stand_aside(turn.job_id, job["owner"])

    def _attempt(self, turn: Turn, limit: TimeLimit, owner: str | None) -> None:
        counted = self._usage.counting(owner)
        try:
            with self._processes.process(turn.job_id) as worker, limit.on(worker), counted:
                self._drive(turn, worker)
        except WorkerDied as death:
            if self._processes.closing:
                raise ShuttingDown from None
            if limit.reached:
                detail = f"It took longer than {limit.seconds:g} seconds, and a job may not."
                self._fail(turn, JobError(category="too-costly", detail=detail, hint="Ask for less."))
            else:
                self._crashed(turn, str(death))
        except TaskFailed as failure:
            if failure.parts["category"] == NO_ROOM:
                logger.warning("job %s waits for room on the disk", turn.job_id)
                self._processes.pause(ROOM_SECONDS)
                return
            known = from_parts(failure.parts)
            where = known.offences[0].pointer if known.offences else None
            error = JobError(category=known.kind, detail=known.detail, pointer=where, hint=known.hint)
            self._fail(turn, error)

    def _drive(self, turn: Turn, worker: Worker) -> None:
        """Compute from the newest intact checkpoint on.

        That is deterministic, so points that were committed after that checkpoint come again: they are
        dropped.
        """
        job_id = turn.job_id
        job = self._get(job_id)  # read after the process is known: from here on, a cancel finds and kills it
        if job["status"] != Status.RUNNING:
            raise Overtaken
        checkpoints = self._intact_checkpoints(job_id)
        digest, points_before = checkpoints[0] if checkpoints else (None, 0)
        known = job["points"] - points_before
        recent = deque(checkpoint.digest for checkpoint in reversed(checkpoints))
        estimate = TimeLeft(job["progress"])
        place = {name: job[name] for name in PLACE}
        logger.info("%s %s: process %d, from segment %d", job["kind"], job_id, worker.pid, job["segment"])
        messages = worker.stream(self._streams[job["kind"]], self._request(job, digest))
        for segment, message in enumerate(messages, start=job["segment"]):
            told = message.header
            points = told["points"][known:]
            known = max(0, known - len(told["points"]))
            if points:
                place = {name: points[-1][name] for name in PLACE}
            reached = {**place, "seconds_left": estimate(told["progress"])}
            self._commit(turn, segment, told, points, reached)
            if told["checkpoint"] is not None:
                recent.append(told["checkpoint"])
            while len(recent) > KEPT_CHECKPOINTS:
                self._files.of(job_id).drop_checkpoint(recent.popleft())

    def _intact_checkpoints(self, job_id: str) -> list[Checkpoint]:
        files, kept = self._files.of(job_id), self._store.checkpoints(job_id)
        files.sweep({checkpoint.digest for checkpoint in kept})
        return [checkpoint for checkpoint in kept if files.has_checkpoint(checkpoint.digest)]

    def _request(self, job: Row, checkpoint: str | None) -> Message:
        return Message(
            {
                "spec": json.loads(self._store.spec(job["id"]) or "null"),
                "facts": json.loads(job["facts"]),
                "checkpoint": checkpoint,
                "directory": str(self._files.of(job["id"]).directory),
                "arrays_href": f"{self._paths[job['kind']]}/{job['id']}/arrays",
                "segment_seconds": self._policy.segment_seconds,
            }
        )

    def _commit(self, turn: Turn, segment: int, told: Row, points: Sequence[Any], reached: Row) -> None:
        """One segment, durably and at once: its points, its progress, its checkpoint, perhaps the end."""
        counts = told.get("counts")
        changes: dict[str, Any] = {**reached, "segment": segment + 1, "progress": told["progress"]}
        progress = Progress(segment=segment, fraction=told["progress"], counts=counts, **reached)
        new = [NewEvent(kind="point", **point) for point in points] + [progress.to_store()]
        if counts is not None:
            changes["counts"] = dumps(counts)
        if told["outcome"] is not None or "result" in told:
            changes |= {"status": Status.SUCCEEDED, "ended_at": now(), "detail": dumps(told["detail"])}
            changes |= UNMEASURED
            changes |= {"outcome": told["outcome"], "result": dumps(told.get("result"))}
            end = Finished(outcome=told["outcome"], detail=told["detail"], result=told.get("result"))
            new.append(end.to_store())
        fence: dict[str, list[Any]] = {"status": [Status.RUNNING], "segment": [segment]}
        self._advance(turn, fence, changes, new, told["checkpoint"])

    def _crashed(self, turn: Turn, how: str) -> None:
        job = self._get(turn.job_id)
        crashes = job["crashes"] + 1
        self._advance(turn, {"status": [Status.RUNNING]}, {"crashes": crashes}, [])
        told = (job["kind"], turn.job_id, how, job["segment"], crashes)
        logger.warning("%s %s: process %s in segment %d (crash %d)", *told)
        self._metrics.crashes.inc()
        if crashes < self._policy.crashes_allowed:
            self._metrics.recoveries.inc()
        else:
            detail = f"Its process was {how} in segment {job['segment']}, its crash {crashes} of {crashes}."
            hint = "It may need more memory than there is; ask for a smaller network or record less."
            self._fail(turn, JobError(category="worker-died", detail=detail, hint=hint))

    def _fail(self, turn: Turn, error: JobError) -> None:
        end = {"status": Status.FAILED, "error": error.model_dump_json(), "ended_at": now()}
        changes = {**end, **UNMEASURED, "content": None}  # asked for again, it is tried again
        self._enter(turn, Status.FAILED, changes, Failed(error=error))

    def _enter(
        self, turn: Turn, status: Status, changes: Row, event: Event, crowd: Crowd | None = None
    ) -> None:
        self._advance(turn, {"status": sources(status)}, changes, [event.to_store()], crowd=crowd)

    def _advance(
        self,
        turn: Turn,
        expect: Mapping[str, Sequence[Any]],
        changes: Row,
        new: Sequence[NewEvent],
        checkpoint: str | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        """Write, then wake the readers: what they are told can no longer be lost."""
        job_id, keep = turn.job_id, KEPT_CHECKPOINTS
        fence = {**expect, "turn": [turn.number]}
        if not self._store.advance(
            job_id, fence, changes, new, at=now(), checkpoint=checkpoint, keep=keep, crowd=crowd
        ):
            raise Overtaken
        self._notifier.notify(job_id)
        self._metrics.points.inc(sum(event.kind == "point" for event in new))

    def _get(self, job_id: str) -> Row:
        run = self._store.get(job_id)
        if run is None:
            raise Overtaken
        return run


class TimeLeft:
    """Wall time left, from the rate since this attempt began."""

    def __init__(self, fraction: float) -> None:
        self._first = fraction
        self._begin = time.monotonic()

    def __call__(self, fraction: float) -> float | None:
        """Seconds until the fraction is 1, if it moves at all."""
        moved = fraction - self._first
        return None if moved <= 0 else (1 - fraction) * (time.monotonic() - self._begin) / moved


class TimeLimit:
    """The most wall time that a job may take, from its start on, waiting for crashed machines included.

    The clock is read once, for what was before; a later jump of it is none of the job's time.
    """

    def __init__(self, seconds: float | None, started_at: str) -> None:
        self.seconds = math.inf if seconds is None else seconds
        self.reached = False
        self._end = time.monotonic() + self.seconds - max(0.0, seconds_since(started_at))

    @contextmanager
    def on(self, worker: Worker) -> Iterator[None]:
        """Kill the worker when the time is over."""

        def end() -> None:
            self.reached = True
            worker.kill()

        if self._end == math.inf:
            yield
            return
        timer = threading.Timer(max(0.0, self._end - time.monotonic()), end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
