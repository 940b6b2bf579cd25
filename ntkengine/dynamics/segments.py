"""What a run hands out: points, and segments from whose checkpoints it can go on. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from ntkengine.dynamics.records import Value

Checkpoint = dict[str, np.ndarray]


class Outcome(StrEnum):
    """How a run ended."""

    CONVERGED = "converged"
    STOPPED = "stopped"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class Point:
    """What was recorded at one moment; `step` is None under a flow, which has none."""

    step: int | None
    time: float
    values: dict[str, Value]


@dataclass(frozen=True)
class Segment:
    """A stretch of a run: its points, and the checkpoint from which `train` goes on after it."""

    index: int
    points: tuple[Point, ...]
    checkpoint: Checkpoint
    progress: float
    outcome: Outcome | None = None  # set on the last segment
    detail: dict[str, Any] = field(default_factory=dict)


def joint(outcomes: Sequence[Outcome]) -> Outcome:
    """How a run ended: diverged if any member did, converged if all did."""
    if Outcome.DIVERGED in outcomes:
        return Outcome.DIVERGED
    return Outcome.CONVERGED if set(outcomes) == {Outcome.CONVERGED} else Outcome.STOPPED
