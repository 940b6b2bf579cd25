"""Runs of the catalogue as arrays over time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.dynamics import train
from ntkengine.experiments import EXPERIMENTS

Array = NDArray[np.float64]


class Recorded:
    """The points of a run; `recorded["linearized", "loss"]` is a series, time first."""

    def __init__(self, name: str) -> None:
        segments = train(EXPERIMENTS[name].spec, segment_seconds=60.0)
        self._values: list[Any] = []
        times = []
        for point in (point for segment in segments for point in segment.points):
            self._values.append(point.values)
            times.append(point.time)
        self.times: Array = np.array(times)

    def __getitem__(self, names: tuple[str, ...]) -> Array:
        found = self._values
        for name in names:
            found = [value[name] for value in found]
        return np.array(found)

    def time_of_share(self, share: float) -> float:
        """The first recorded time at which the loss, of all members, is at most that share of its start."""
        loss = self["loss",].reshape(len(self.times), -1)
        below = (loss <= share * loss[0]).all(axis=1)
        return float(self.times[below.argmax()] if below.any() else self.times[-1])


recorded = lru_cache(maxsize=32)(Recorded)
