"""What jobs of a kind are: how a request is checked, what its process does, what the job is known by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ntkengine.dynamics import RunSpec
from ntkengine.model import Model
from service.compute.worker import Stream
from service.runs import child, kernel_child, kernel_plan, regime_child, regimes, sweep_child, sweeps
from service.runs.limits import check_whole_run
from service.settings import Settings

MOST_IN_WORDS = 7  # layers


def nothing(kind: str, owner: str | None, text: str) -> None:
    """Two equal requests are two jobs."""


def of_request(kind: str, owner: str | None, text: str) -> str:
    """Equal requests are one job: a digest of the kind, whose it is, the version, and the spec's JSON."""
    return hashlib.sha256(f"{kind}\n{owner or ''}\n{kernel_plan.VERSION}\n{text}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class JobKind:
    """One kind of job. Adding one is an object like those below, and a module of routes."""

    name: str
    """As the store and the answers have it."""
    path: str
    """Where its jobs are found."""
    stream: Stream
    """What its process does: a module-level generator of messages with `points`, `checkpoint`, `progress`,
    `outcome`, `detail`, perhaps `counts` (what is done of what) and, on the last, perhaps `result`. What is
    to survive the process is named by `checkpoint`, or kept by the stream itself in the job's directory."""
    check: Callable[[Any, Settings], None]
    """Refuses a spec that does not hold together, or is over a limit."""
    facts: Callable[[Any, Settings], Mapping[str, Any]]
    """What can be said of the job before it starts."""
    disk_bytes: Callable[[Any], float]
    """How much it will write."""
    content: Callable[[str, str | None, str], str | None] = nothing
    """What it is found by when the same is asked again; of the kind's name, the owner and the spec's JSON."""


def _run_facts(spec: RunSpec, _settings: Settings) -> Mapping[str, Any]:
    return {**spec.facts(), "network": in_words(spec.model)}


def in_words(model: Model) -> str:
    """The layers in a line: "dense 256, relu, dense 1"."""
    layers = [f"{layer.kind} {getattr(layer, 'width', None) or ''}".strip() for layer in model.layers]
    return ", ".join(layers if len(layers) <= MOST_IN_WORDS else [*layers[: MOST_IN_WORDS - 1], "..."])


def _run_bytes(spec: RunSpec) -> float:
    return float(spec.plan()["bytes_kept"])


RUN = JobKind(
    name="run",
    path="/runs",
    stream=child.train,
    check=check_whole_run,
    facts=_run_facts,
    disk_bytes=_run_bytes,
)

KERNEL = JobKind(
    name="kernel",
    path="/kernels",
    stream=kernel_child.tiles,
    check=kernel_plan.check,
    facts=kernel_plan.facts,
    disk_bytes=kernel_plan.disk_bytes,
    content=of_request,
)

REGIME = JobKind(
    name="regime",
    path="/regime",
    stream=regime_child.report,
    check=regimes.check,
    facts=regimes.facts,
    disk_bytes=regimes.disk_bytes,
)

SWEEP = JobKind(
    name="sweep",
    path="/sweeps",
    stream=sweep_child.rows,
    check=sweeps.check,
    facts=sweeps.facts,
    disk_bytes=sweeps.disk_bytes,
)

KINDS = (RUN, KERNEL, REGIME, SWEEP)
