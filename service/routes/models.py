"""What the answers about runs and experiments look like."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.runs.events import JobError
from service.runs.states import Outcome, Status

JOB_ID = "Q3VyaW9zaXR5IGtpbGxlZA"
TIME = "2026-01-01T12:00:00.000000Z"


class Answer(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="forbid")


class Links(Answer):
    """Where to go on from here."""

    self: str = Field(description="The job.", examples=[f"/runs/{JOB_ID}"])
    events: str = Field(description="Its events, live.", examples=[f"/runs/{JOB_ID}/events"])
    cancel: str = Field(description="POST here to stop it.", examples=[f"/runs/{JOB_ID}/cancel"])


class RunProgress(Answer):
    """How far a run is."""

    fraction: float = Field(description="Share of the work done.", examples=[0.25])
    step: int | None = Field(description="Step reached; null for gradient flow.", examples=[1250])
    time: float | None = Field(description="Training time reached.", examples=[1.25])
    points: int = Field(description="Points recorded.", examples=[1251])
    segments: int = Field(description="Segments committed.", examples=[4])
    seconds_left: float | None = Field(description="Estimate of the wall time left.", examples=[6.0])
    crashes: int = Field(description="How often its process died and was replaced.", examples=[0])


class Job(Answer):
    """What all jobs have."""

    id: str = Field(description="Unguessable name of the job.", examples=[JOB_ID])
    status: Status = Field(description="Where the job is.", examples=["running"])
    meaning: str = Field(description="The status in a sentence.", examples=[Status.RUNNING.meaning])
    created_at: AwareDatetime = Field(description="When it was asked for.", examples=[TIME])
    started_at: AwareDatetime | None = Field(description="When it began.", examples=[TIME])
    ended_at: AwareDatetime | None = Field(description="When it ended.", examples=[TIME])
    seconds_left: float | None = Field(description="Estimate of the wall time left.", examples=[6.0])
    error: JobError | None = Field(description="Why it failed, if it did.", examples=[None])


class RunSummary(Job):
    """A run without what it recorded."""

    kind: Literal["run"] = Field(description="Always `run`.", examples=["run"])
    outcome: Outcome | None = Field(description="How it ended, once it succeeded.", examples=["converged"])
    experiment: str | None = Field(description="The experiment it came from.", examples=["quadratic_ntk_10"])
    network: str | None = Field(
        description="Its layers, in words.", examples=["dense 10, quadratic, dense 1"]
    )
    progress: RunProgress = Field(description="How far it is.")
    rate_factor: float | None = Field(description="Factor that the loss puts on every rate.", examples=[1.0])
    time_per_step: float | None = Field(
        description="Training time in a step; null for gradient flow.", examples=[0.001]
    )
    time_unit: str | None = Field(description="What training time counts.", examples=["gradient-flow time"])
    links: Links = Field(description="Addresses to go on from here.")


class SeriesView(Answer):
    """One recorded quantity on its own axes."""

    step: list[int | None] = Field(
        description="Step of each value; null for gradient flow.", examples=[[0, 50]]
    )
    time: list[float] = Field(description="Training time of each value.", examples=[[0.0, 0.05]])
    shape: list[int] | dict[str, list[int]] | None = Field(
        description="Shape of `value`; null where the values are references.", examples=[[2, 3, 3]]
    )
    value: Any = Field(
        description="The values, first axis time; an object of such lists where a quantity has parts.",
        examples=[[0.5, 0.125]],
    )
    total: int = Field(description="How many values there are in the window asked for.", examples=[100001])
    every: int = Field(
        description="Distance between the values given; the last value is always there.", examples=[51]
    )
    thinned: bool = Field(
        description="Whether `max_points` made the values sparser than asked for.", examples=[True]
    )


class RunView(RunSummary):
    """A run with its spec and what it recorded."""

    spec: dict[str, Any] = Field(
        description="What was asked for, defaults filled in.", examples=[{"seed": 0}]
    )
    detail: dict[str, Any] | None = Field(
        description="What the trainer reported at the end.",
        examples=[{"method": "DOP853", "evaluations": 212}],
    )
    series: dict[str, SeriesView] = Field(description="The trajectories, by quantity.")


class RunEstimate(Answer):
    """What a run would cost. Estimates, not measurements."""

    points: int = Field(description="Moments at which something is recorded.", examples=[200])
    flops: float = Field(description="Floating-point operations of training.", examples=[1.2e9])
    seconds: float = Field(description="Wall time of training on one ordinary core.", examples=[0.04])
    bytes: float = Field(description="Memory.", examples=[4.0e6])
    bytes_kept: float = Field(description="What is kept of its records.", examples=[1.6e5])


class RunList(Answer):
    """A page of runs."""

    runs: list[RunSummary] = Field(description="Runs, in the order asked for.")
    next: str | None = Field(description="`cursor` of the next page, if there is one.", examples=[None])


class ExperimentView(Answer):
    """A named run that shows something."""

    name: str = Field(
        description='Name; `POST /runs {"experiment": name}` runs it.', examples=["quadratic_ntk_10"]
    )
    title: str = Field(description="Title.", examples=["10 quadratic neurons, NTK parameterization"])
    shows: str = Field(
        description="What it shows, in a sentence.", examples=["The kernel moves while it trains."]
    )
    expect: list[str] = Field(description="What to expect.", examples=[["The loss falls below 1e-12."]])
    spec: dict[str, Any] = Field(
        description="The run's spec: change it and post it to /runs.", examples=[{"seed": 0}]
    )


class ExperimentList(Answer):
    """The catalogue."""

    experiments: list[ExperimentView] = Field(description="All experiments.")


class Health(Answer):
    """The process answers."""

    status: Literal["ok"] = Field(description="Always `ok`.", examples=["ok"])


class Readiness(Answer):
    """All that is needed for work is there."""

    status: Literal["ready"] = Field(description="Always `ready`.", examples=["ready"])
    checks: dict[str, str] = Field(description="Each thing that was checked.", examples=[{"database": "ok"}])


class Version(Answer):
    """What runs here."""

    version: str = Field(description="Version of service and engine.", examples=["0.1.0"])
    schema_version: int = Field(description="Version of the database's tables.", examples=[1])
