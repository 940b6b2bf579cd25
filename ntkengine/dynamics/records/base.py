"""What every record of a run has. Torch-free to validate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple, final

import numpy as np

from ntkengine.dynamics.schedules import AnySchedule, Axis
from ntkengine.empirical.implementation import parameter_count
from ntkengine.errors import SpecError
from ntkengine.layer import Site

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.dynamics.snapshot import Snapshot

Value = float | np.ndarray | dict[str, "Value"]


class Shapes(NamedTuple):
    """What sizes depend on: m training and n test inputs, k outputs, the number of weights."""

    m: int
    n: int
    k: int
    weights: int


class Size(NamedTuple):
    """Numbers that a record keeps each time, and that it holds in memory while it is taken."""

    kept: int
    held: int


class Record(ABC):
    """A quantity and when it is recorded."""

    what: str
    schedule: AnySchedule
    most_weights: ClassVar[int | None] = None  # on larger networks it is not recorded
    needs_time: ClassVar[bool] = False  # so that it means nothing where steps have no time

    @abstractmethod
    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        """The quantity at that moment, by the names under which it is stored."""

    @abstractmethod
    def size(self, shapes: Shapes) -> Size:
        """How large one value is."""

    @final
    def check(self, site: Site, axis: Axis) -> None:
        """Raise a SpecError where it cannot be recorded on that network or at those moments."""
        self.schedule.positions(axis)
        count = parameter_count(site)
        if self.most_weights is not None and count > self.most_weights:
            raise SpecError(
                f"the network has {count} weights; {self.what} are recorded of at most {self.most_weights}",
                hint=f"leave {self.what} out, or use a narrower network",
            )


def array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor, detached and copied."""
    return tensor.numpy(force=True).copy()
