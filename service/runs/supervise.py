"""Driving a run's process: commit each segment, wake the readers, take it up again after a crash."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from service.compute.processes import RunProcesses, ShuttingDown
from service.compute.worker import Stream, TaskFailed, Worker, WorkerDied
from service.encoding import Message, dumps
from service.errors import from_parts
from service.runs.clock import now
from service.runs.events import Event, Failed, Finished, Progress, RunError, Started
from service.runs.notify import Notifier
from service.runs.states import Status, sources
from service.store.files import Files
from service.store.runs import Checkpoint, NewEvent, Row, RunStore

logger = logging.getLogger(__name__)

# The newest and, should that be damaged, the one before.
KEPT_CHECKPOINTS = 2
PLACE = ("step", "time")


class Overtaken(Exception):
    """The run is no longer ours to change: cancelled, deleted, or driven by someone else."""


@dataclass(frozen=True)
class Policy:
    """What an operator decides about runs."""

    segment_seconds: float
    crashes_allowed: int


class Supervisor:
    """Called with a run's id, drives it to its end; called again after a crash of the server, goes on."""

    def __init__(
        self,
        store: RunStore,
        files: Files,
        processes: RunProcesses,
        notifier: Notifier,
        trainer: Stream,
        policy: Policy,
    ) -> None:
        self._store = store
        self._files = files
        self._processes = processes
        self._notifier = notifier
        self._trainer = trainer
        self._policy = policy

    def __call__(self, run_id: str) -> None:
        """Return when the run has ended."""
        try:
            self._begin(run_id)
            while self._get(run_id)["status"] == Status.RUNNING:
                self._attempt(run_id)
        except Overtaken:
            return
        except Exception:
            logger.exception("run %s cannot be driven", run_id)
            with suppress(Overtaken):
                self._fail(
                    run_id, RunError(category="internal", detail="The service failed to drive the run.")
                )

    def _begin(self, run_id: str) -> None:
        run = self._get(run_id)
        if run["status"] == Status.QUEUED:
            changes = {"status": Status.RUNNING, "started_at": now()}
            self._enter(run_id, Status.RUNNING, changes, Started(**json.loads(run["facts"])))

    def _attempt(self, run_id: str) -> None:
        try:
            with self._processes.process(run_id) as worker:
                self._drive(run_id, worker)
        except WorkerDied as death:
            if self._processes.closing:
                raise ShuttingDown from None
            self._crashed(run_id, str(death))
        except TaskFailed as failure:
            known = from_parts(failure.parts)
            where = known.offences[0].pointer if known.offences else None
            error = RunError(category=known.kind, detail=known.detail, pointer=where, hint=known.hint)
            self._fail(run_id, error)

    def _drive(self, run_id: str, worker: Worker) -> None:
        """Train from the newest intact checkpoint on.

        Training is deterministic, so points that were committed after that checkpoint come again: they are
        dropped.
        """
        run = self._get(run_id)  # read after the process is known: from here on, a cancel finds and kills it
        if run["status"] != Status.RUNNING:
            raise Overtaken
        checkpoints = self._intact_checkpoints(run_id)
        digest, points_before = checkpoints[0] if checkpoints else (None, 0)
        known = run["points"] - points_before
        recent = deque(checkpoint.digest for checkpoint in reversed(checkpoints))
        estimate = TimeLeft(run["progress"])
        place = {name: run[name] for name in PLACE}
        logger.info("run %s: process %d, from segment %d", run_id, worker.pid, run["segment"])
        messages = worker.stream(self._trainer, self._job(run, digest))
        for segment, message in enumerate(messages, start=run["segment"]):
            told = message.header
            points = told["points"][known:]
            known = max(0, known - len(told["points"]))
            if points:
                place = {name: points[-1][name] for name in PLACE}
            reached = {**place, "seconds_left": estimate(told["progress"])}
            self._commit(run_id, segment, told, points, reached)
            recent.append(told["checkpoint"])
            while len(recent) > KEPT_CHECKPOINTS:
                self._files.of(run_id).drop_checkpoint(recent.popleft())

    def _intact_checkpoints(self, run_id: str) -> list[Checkpoint]:
        files, kept = self._files.of(run_id), self._store.checkpoints(run_id)
        files.sweep({checkpoint.digest for checkpoint in kept})
        return [checkpoint for checkpoint in kept if files.has_checkpoint(checkpoint.digest)]

    def _job(self, run: Row, checkpoint: str | None) -> Message:
        return Message(
            {
                "spec": json.loads(run["spec"]),
                "checkpoint": checkpoint,
                "directory": str(self._files.of(run["id"]).directory),
                "arrays_href": f"/runs/{run['id']}/arrays",
                "segment_seconds": self._policy.segment_seconds,
            }
        )

    def _commit(self, run_id: str, segment: int, told: Row, points: Sequence[Any], reached: Row) -> None:
        """One segment, durably and at once: its points, its progress, its checkpoint, perhaps the end."""
        changes: dict[str, Any] = {**reached, "segment": segment + 1, "progress": told["progress"]}
        progress = Progress(segment=segment, fraction=told["progress"], **reached)
        new = [NewEvent(kind="point", **point) for point in points] + [progress.to_store()]
        if told["outcome"] is not None:
            new.append(Finished(outcome=told["outcome"], detail=told["detail"]).to_store())
            end = {"outcome": told["outcome"], "detail": dumps(told["detail"]), "ended_at": now()}
            changes |= {"status": Status.SUCCEEDED, **end}
        fence: dict[str, list[Any]] = {"status": [Status.RUNNING], "segment": [segment]}
        self._advance(run_id, fence, changes, new, told["checkpoint"])

    def _crashed(self, run_id: str, how: str) -> None:
        run = self._get(run_id)
        crashes = run["crashes"] + 1
        self._advance(run_id, {"status": [Status.RUNNING]}, {"crashes": crashes}, [])
        logger.warning("run %s: process %s in segment %d (crash %d)", run_id, how, run["segment"], crashes)
        if crashes >= self._policy.crashes_allowed:
            detail = f"Its process was {how} in segment {run['segment']}, its crash {crashes} of {crashes}."
            hint = "It may need more memory than there is; ask for a smaller network or record less."
            self._fail(run_id, RunError(category="worker-died", detail=detail, hint=hint))

    def _fail(self, run_id: str, error: RunError) -> None:
        changes = {"status": Status.FAILED, "error": error.model_dump_json(), "ended_at": now()}
        self._enter(run_id, Status.FAILED, changes, Failed(error=error))

    def _enter(self, run_id: str, status: Status, changes: Row, event: Event) -> None:
        self._advance(run_id, {"status": sources(status)}, changes, [event.to_store()])

    def _advance(
        self,
        run_id: str,
        expect: Mapping[str, Sequence[Any]],
        changes: Row,
        new: Sequence[NewEvent],
        checkpoint: str | None = None,
    ) -> None:
        """Write, then wake the readers: what they are told can no longer be lost."""
        keep = KEPT_CHECKPOINTS
        if not self._store.advance(run_id, expect, changes, new, at=now(), checkpoint=checkpoint, keep=keep):
            raise Overtaken
        self._notifier.notify(run_id)

    def _get(self, run_id: str) -> Row:
        run = self._store.get(run_id)
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
