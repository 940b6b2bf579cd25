"""What a job tells its readers: a union discriminated by `kind`, numbered without gaps from 0."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.encoding import dumps
from service.runs.states import Outcome
from service.store.jobs import NewEvent


class Event(BaseModel):
    """What all events have."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    kind: str
    seq: int = Field(default=-1, description="Number of the event; also the SSE id.", ge=-1, examples=[3])
    at: AwareDatetime | None = Field(
        default=None, description="When it was stored.", examples=["2026-01-01T12:00:00.000000Z"]
    )

    def to_store(self) -> NewEvent:
        """The event without number and time, which storing it adds."""
        fields = self.model_dump(mode="json", exclude={"seq", "at", "kind"})
        return NewEvent(kind=self.kind, payload=dumps(fields))


class Started(Event):
    """The job has begun. Always event 0."""

    model_config = ConfigDict(extra="ignore")  # of the facts that are stored, those below are told

    kind: Literal["started"] = "started"
    rate_factor: float | None = Field(
        default=None, description="What the loss puts on every rate.", examples=[1.0]
    )
    time_per_step: float | None = Field(default=None, description="Theory time in a step.", examples=[0.001])
    time_unit: str | None = Field(
        default=None, description="What `time` counts.", examples=["gradient-flow time"]
    )
    plan: dict[str, Any] | None = Field(
        default=None, description="How a kernel is computed, and its cost.", examples=[{"flops": 1e9}]
    )


class Point(Event):
    """What was recorded at one moment of training, or a row of a sweep's table, as `row`.

    Each quantity has a key of its own, `loss`, `outputs`, `kernel`, ...: a number, nested lists, an object
    of these where it has parts, or for a large array a reference `{kind: array, digest, shape, dtype, href}`.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"kind": "point", "seq": 3, "step": 50, "time": 0.05, "loss": 0.125, "outputs": [[0.5]]}
            ]
        },
    )

    kind: Literal["point"] = "point"
    step: int | None = Field(description="Steps made, null for a flow; the number of a row.", examples=[50])
    time: float = Field(description="Training time; the number of a row.", examples=[0.05])


class Progress(Event):
    """A segment was completed and can no longer be lost."""

    kind: Literal["progress"] = "progress"
    segment: int = Field(description="Number of the segment, from 0.", examples=[4])
    fraction: float = Field(description="Share of the work that is done.", ge=0, le=1, examples=[0.25])
    step: int | None = Field(default=None, description="Step reached.", examples=[1250])
    time: float | None = Field(default=None, description="Training time reached.", examples=[1.25])
    seconds_left: float | None = Field(
        default=None, description="Estimate of the wall time left.", examples=[6.0]
    )
    counts: dict[str, Any] | None = Field(
        default=None, description="What is done of what.", examples=[{"tiles": {"done": 12, "total": 36}}]
    )


class Finished(Event):
    """The job ended by itself."""

    kind: Literal["finished"] = "finished"
    outcome: Outcome | None = Field(
        default=None, description="How a run ended; null for other jobs.", examples=["converged"]
    )
    detail: dict[str, Any] = Field(
        default={}, description="What the trainer reports, e.g. solver statistics."
    )
    result: dict[str, Any] | None = Field(
        default=None, description="The result, of jobs that have one.", examples=[{"shape": [8000, 8000]}]
    )


class JobError(BaseModel):
    """Why a job failed."""

    category: str = Field(description="Kind of the failure.", examples=["worker-died"])
    detail: str = Field(description="What happened.", examples=["Its process was killed by SIGKILL 3 times."])
    pointer: str | None = Field(
        default=None, description="Where in the spec, if there.", examples=["/model/layers/0"]
    )
    hint: str | None = Field(default=None, description="What to do.", examples=["Ask for less memory."])


class Failed(Event):
    """The job could not be completed."""

    kind: Literal["failed"] = "failed"
    error: JobError = Field(description="Why.")


class Cancelled(Event):
    """The job was stopped on request."""

    kind: Literal["cancelled"] = "cancelled"


JobEvent = Annotated[Started | Point | Progress | Finished | Failed | Cancelled, Field(discriminator="kind")]
FINAL_KINDS = {"finished", "failed", "cancelled"}
