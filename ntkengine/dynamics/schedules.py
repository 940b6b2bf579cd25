"""When a quantity is recorded: positions along a run, in steps or in units of time. Torch-free."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ntkengine.errors import SpecError
from ntkengine.spec import Count, NonNegative, Positive, spec


@dataclass(frozen=True)
class Axis:
    """The positions of a run: 0 to `end`, whole numbers where it has steps."""

    end: float
    discrete: bool

    @property
    def unit(self) -> str:
        return "steps" if self.discrete else "units of time"

    def positions(self, wanted: np.ndarray) -> tuple[float, ...]:
        """The wanted positions that the axis has, ascending, each once."""
        exact = np.rint(wanted) if self.discrete else wanted
        return tuple(np.unique(np.clip(exact, 0.0, self.end)).tolist())


MOST_POINTS = 200_000  # of one quantity


class Schedule(ABC):
    """A rule for positions. The start and the end are recorded whatever it says."""

    @abstractmethod
    def positions(self, axis: Axis) -> tuple[float, ...]:
        """The positions on that axis, ascending."""


@spec
class Every(Schedule):
    """Every so many steps; for runs that have steps."""

    kind: Literal["every"] = "every"
    steps: Count
    """Steps from one record to the next."""

    def positions(self, axis: Axis) -> tuple[float, ...]:
        if not axis.discrete:
            raise SpecError(
                "a gradient flow has no steps",
                pointer="/schedule",
                hint='use {"kind": "linear", "points": 200} or {"kind": "at", "at": [...]}',
            )
        if axis.end / self.steps > MOST_POINTS:
            raise SpecError(
                f"a record every {self.steps} of {axis.end:g} steps: at most {MOST_POINTS:,} are kept",
                pointer="/schedule/steps",
                hint=f"record every {math.ceil(axis.end / MOST_POINTS):,} steps or more seldom",
            )
        return axis.positions(np.arange(0.0, axis.end + 1.0, self.steps))


@spec
class LinearSchedule(Schedule):
    """Evenly spaced from start to end."""

    kind: Literal["linear"] = "linear"
    points: Annotated[int, Field(ge=2, le=MOST_POINTS, strict=True)] = 200
    """How many records, start and end included."""

    def positions(self, axis: Axis) -> tuple[float, ...]:
        return axis.positions(np.linspace(0.0, axis.end, self.points))


@spec
class Logarithmic(Schedule):
    """The start, then evenly spaced in the logarithm up to the end."""

    kind: Literal["logarithmic"] = "logarithmic"
    points: Annotated[int, Field(ge=2, le=MOST_POINTS, strict=True)] = 200
    """How many records after the start."""
    first: Positive | None = None
    """The first position after the start; by default step 1, or 1/10,000 of the time."""

    def positions(self, axis: Axis) -> tuple[float, ...]:
        first = self.first or (1.0 if axis.discrete else 1e-4 * axis.end)
        spaced = np.geomspace(min(first, axis.end) or axis.end, axis.end, self.points)
        return axis.positions(np.concatenate([[0.0], spaced]))


@spec
class At(Schedule):
    """At chosen positions."""

    kind: Literal["at"] = "at"
    at: Annotated[tuple[NonNegative, ...], Field(min_length=1, max_length=MOST_POINTS)]
    """Steps, or times of a gradient flow."""

    def positions(self, axis: Axis) -> tuple[float, ...]:
        late = [position for position in self.at if position > axis.end]
        if late:
            raise SpecError(
                f"position {late[0]:g} lies beyond the end of the run, {axis.end:g} {axis.unit}",
                pointer="/schedule/at",
                hint="choose positions up to the end, or train longer",
            )
        between = [position for position in self.at if axis.discrete and position != int(position)]
        if between:
            raise SpecError(
                f"position {between[0]:g} lies between two steps",
                pointer="/schedule/at",
                hint="gradient descent is recorded at whole steps",
            )
        return axis.positions(np.asarray(self.at, dtype=np.float64))


AnySchedule = Annotated[Every | LinearSchedule | Logarithmic | At, Field(discriminator="kind")]
