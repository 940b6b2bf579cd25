"""The states of a job, in words, and the only ways between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def meaning(self) -> str:
        """The state in a sentence."""
        return MEANING[self]

    @property
    def is_final(self) -> bool:
        """Whether nothing can happen any more."""
        return not TRANSITIONS[self]


class Outcome(StrEnum):
    """How a run that succeeded ended."""

    CONVERGED = "converged"
    STOPPED = "stopped"
    DIVERGED = "diverged"


MEANING: Mapping[Status, str] = {
    Status.QUEUED: "It waits for a free process, or until fewer jobs of its key compute.",
    Status.RUNNING: "It computes, or is being taken up again after its process or the server was lost.",
    Status.SUCCEEDED: "It ended by itself; `outcome` or `result` says how.",
    Status.FAILED: "It could not be completed; `error` says why.",
    Status.CANCELLED: "It was stopped on request; what it recorded until then is kept.",
}

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.FAILED, Status.CANCELLED}),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}

ACTIVE = [status for status in Status if not status.is_final]
ENDED = [status for status in Status if status.is_final]


def sources(target: Status) -> list[Status]:
    """The states from which a job may enter `target`."""
    return [status for status in Status if target in TRANSITIONS[status]]
