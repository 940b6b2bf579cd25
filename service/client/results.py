"""What the client returns: frozen, with numpy arrays where there are many numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FINAL = frozenset({"finished", "failed", "cancelled"})
ENDED = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Kernels:
    """Kernel matrices by name, and how they were computed."""

    arrays: Mapping[str, Array]
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the service says of them: outputs, dtype, method, plan, scaling, diagnostics, warnings, ..."""

    @property
    def ntk(self) -> Array:
        """The neural tangent kernel."""
        return self.arrays["ntk"]

    @property
    def nngp(self) -> Array:
        """The covariance of the outputs."""
        return self.arrays["nngp"]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What one should know before using the numbers."""
        return tuple(self.facts.get("warnings", ()))


@dataclass(frozen=True)
class Job:
    """A run or another job, as it stood when it was asked for."""

    id: str
    status: str
    progress: float
    seconds_left: float | None
    outcome: str | None
    error: Mapping[str, Any] | None
    members: Mapping[str, Any] = field(repr=False)
    """All that the service said of it."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing can happen any more."""
        return self.status in ENDED

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> Job:
        """A job of the service's JSON; a run tells of its progress in an object, a kernel in a number."""
        told: Any = members.get("progress") or 0.0
        progress = told if isinstance(told, Mapping) else {"fraction": told}
        return cls(
            id=members["id"],
            status=members["status"],
            progress=float(progress["fraction"]),
            seconds_left=progress.get("seconds_left", members.get("seconds_left")),
            outcome=members.get("outcome"),
            error=members.get("error"),
            members=members,
        )


@dataclass(frozen=True)
class Event:
    """Something that happened in a run."""

    kind: str
    seq: int
    members: Mapping[str, Any] = field(repr=False)
    """All of it; a point's recorded quantities by their names."""

    @property
    def is_final(self) -> bool:
        """Whether it is a run's last."""
        return self.kind in FINAL

    def __getitem__(self, name: str) -> Any:
        return self.members[name]


@dataclass(frozen=True)
class Series:
    """One recorded quantity; a quantity with parts has an array for each."""

    step: Array
    time: Array
    value: Any
    total: int
    every: int
    thinned: bool

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> Series:
        """A series of the service's JSON."""
        facts = {name: members[name] for name in ("total", "every", "thinned")}
        step = np.array([np.nan if step is None else step for step in members["step"]], float)
        return cls(step=step, time=np.array(members["time"], float), value=_arrays(members["value"]), **facts)


@dataclass(frozen=True)
class Prediction:
    """Training in closed form: outputs at T times or steps."""

    times: Array
    """(T,), inf for the end of training."""
    steps: Array | None
    """(T,), where training has steps."""
    arrays: Mapping[str, Array]
    """`mean_train` (T, n, k), `covariance_test`, `loss_train`, ...: what `POST /predict` answers with."""
    facts: Mapping[str, Any]
    """What else it says: diagnostics, plan, method, warnings, ..."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What one should know before using the numbers."""
        return tuple(self.facts.get("warnings", ()))

    @classmethod
    def of(cls, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> Prediction:
        """A prediction of the service's arrays and of what it says of them."""
        steps = None if facts["steps"] is None else np.array(facts["steps"])
        outputs = {name: values for name, values in arrays.items() if name != "times"}
        rest = {name: value for name, value in facts.items() if name not in {"times", "steps"}}
        return cls(arrays["times"], steps, outputs, rest)


@dataclass(frozen=True)
class Influence:
    """What one more training point does: outputs (n, k) at the points, and how they move."""

    before: Array
    after: Array
    moved: Array
    predicted: Array
    """The motion by the kernel, frozen where the point was added."""
    weight: Array
    """(n,), the kernel between each point and the new one."""
    relative_error: float
    """`|moved - predicted| / |moved|`."""

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> Influence:
        """An influence of the service's JSON."""
        arrays = {
            name: np.array(members[name]) for name in ("before", "after", "moved", "predicted", "weight")
        }
        return cls(**arrays, relative_error=members["relative_error"])


def _arrays(value: Any) -> Any:
    """Numbers as arrays; references to stored arrays stay what they are."""
    if hasattr(value, "items"):
        return {name: _arrays(part) for name, part in value.items()}
    has_references = any(hasattr(each, "items") for each in value)
    return value if has_references else np.array(value)


@dataclass(frozen=True)
class DatasetInfo:
    """A data set that the service keeps."""

    name: str
    """What specs call it: `{"kind": "dataset", "name": name}`."""
    reference: str
    """The same with what it holds, as the specs of jobs have it."""
    splits: Mapping[str, Mapping[str, tuple[int, ...]]]
    """By split, `train` and perhaps `test`, the shapes of `x` and `y`."""
    bytes: int

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> DatasetInfo:
        """A data set of the service's JSON."""
        splits = {
            split: {part: tuple(shape) for part, shape in parts.items()}
            for split, parts in members["splits"].items()
        }
        return cls(members["name"], members["reference"], splits, members["bytes"])


@dataclass(frozen=True)
class Experiment:
    """A named run that shows something."""

    name: str
    title: str
    shows: str
    expect: tuple[str, ...]
    spec: Mapping[str, Any] = field(repr=False)
