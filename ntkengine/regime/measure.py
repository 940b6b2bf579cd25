"""One network of a report: its seeds trained together, and every number that the report makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.dynamics import Checkpoint, Outcome, Point, RunSpec, Segment, train
from ntkengine.dynamics.run import problem
from ntkengine.losses import Squared
from ntkengine.regime.closed_form import Foretold, Theory, starts
from ntkengine.regime.spec import Case, RegimeSpec

Array = NDArray[np.float64]
Numbers = dict[str, Array]
"""By name, (S,) each, one a seed; NaN where a seed has none. `times` and the curves (T, S) are of moments."""

TRAINING_SHARE = 0.6  # of the time that a case takes, in the measure of progress


@dataclass
class Trained:
    """What was recorded of the members, and where each ended."""

    points: list[Point] = field(default_factory=list)
    ended_at: Array = field(default_factory=lambda: np.zeros(0))
    diverged: Array = field(default_factory=lambda: np.zeros(0))

    def add(self, segment: Segment) -> None:
        self.points += segment.points
        self.ended_at = segment.checkpoint["ended_at"]
        self.diverged = segment.checkpoint["outcomes"] == str(Outcome.DIVERGED)

    def series(self, name: str) -> tuple[list[Point], Array]:
        """The points that have the quantity, and its values (T, S, ...)."""
        having = [point for point in self.points if name in point.values]
        return having, np.array([point.values[name] for point in having], dtype=np.float64)

    def of_twin(self, name: str) -> Array:
        """A part of the linearized twin's record (T, S, ...)."""
        values: list[Any] = [
            point.values["linearized"] for point in self.points if "linearized" in point.values
        ]
        return np.array([value[name] for value in values], dtype=np.float64)


def measure(spec: RegimeSpec, case: Case, seconds: float) -> Iterator[tuple[float, Numbers | None]]:
    """Train and compare: the share that is done, and with the last the numbers."""
    run, trained = spec.run(case), Trained()
    checkpoint: Checkpoint | None = None
    for segment in train(run, checkpoint, segment_seconds=seconds):
        trained.add(segment)
        yield TRAINING_SHARE * segment.progress, None
    members: list[Numbers] = []
    for member, start in enumerate(starts(run)):
        members.append(compared(spec, run, trained, Theory(run, start), member))
        yield TRAINING_SHARE + (1 - TRAINING_SHARE) * (member + 1) / spec.seeds, None
    numbers = {name: np.stack([each[name] for each in members], axis=-1) for name in members[0]}
    yield 1.0, numbers | recorded(trained)


def recorded(trained: Trained) -> Numbers:
    """What the run itself says of its members."""
    loss = trained.series("loss")[1]
    distance, velocity, alignment, cka, displacement = (
        trained.series(name)[1]
        for name in ("kernel_distance", "kernel_velocity", "alignment", "cka", "displacement")
    )
    points = trained.series("kernel_distance")[0]
    return {
        "loss_start": loss[0],
        "loss_end": loss[-1],
        "kernel_change": distance[-1],
        "largest_kernel_change": distance.max(0),
        "kernel_velocity": velocity.max(0),
        "alignment_start": alignment[0],
        "alignment_end": alignment[-1],
        "cka": cka[-1] if len(cka) == len(points) else np.full_like(distance[-1], math.nan),
        "weight_change": displacement[-1],
        "diverged": trained.diverged.astype(np.float64),
        "kernel_times": np.array([point.time for point in points]),
        "kernel_curve": distance,
    }


def compared(spec: RegimeSpec, run: RunSpec, trained: Trained, theory: Theory, member: int) -> Numbers:
    """One member beside the linearized network and the kernel's gradient flow."""
    points, f = trained.series("outputs")
    f = f[:, member]
    has_test = run.data.x_test is not None
    f_test = trained.series("outputs_test")[1][:, member] if has_test else f[:, :0]
    end = trained.ended_at[member]
    positions = np.minimum([point.time if point.step is None else point.step for point in points], end)
    times = positions * (run.training.time_per_step or 1.0)
    if spec.linear_by_kernel:
        linear = theory.linearized(positions)
    else:
        tests = trained.of_twin("outputs_test")[:, member] if has_test else f[:, :0]
        linear = Foretold(trained.of_twin("outputs")[:, member], tests)
    found = {f"linearization_{part}": apart(*both) for part, both in sides(f, f_test, linear).items()}
    found |= {
        f"linearization_{part}_end": apart_at_end(*both) for part, both in sides(f, f_test, linear).items()
    }
    found["learning_rate_limit"] = theory.learning_rate_limit()
    if has_timed_steps(run):
        kernel = theory.kernel(times)
        found |= {f"kernel_{part}": apart(*both) for part, both in sides(f, f_test, kernel).items()}
        found |= errors(run, kernel.test[-1], "kernel")
    found |= errors(run, f_test[-1], "network") | errors(run, linear.test[-1], "linearized")
    return {name: np.asarray(value) for name, value in found.items()}


def has_timed_steps(run: RunSpec) -> bool:
    """Whether the training has a time in which gradient flow can be compared with it."""
    return run.training.time_per_step is not None or not run.training.axis().discrete


def sides(f: Array, f_test: Array, other: Foretold) -> dict[str, tuple[Array, Array]]:
    """Outputs of the network and the foretold ones, on training points and, if there are any, test points."""
    both = {"train": (f, other.train)}
    return both | ({"test": (f_test, other.test)} if f_test.shape[1] else {})


def apart(f: Array, foretold: Array) -> float:
    """`max_t |f_t - g_t| / |f_T - f_0|` over the recorded moments, NaN where f has not moved."""
    return over_motion(f, foretold, slice(None))


def apart_at_end(f: Array, foretold: Array) -> float:
    """`|f_T - g_T| / |f_T - f_0|`."""
    return over_motion(f, foretold, slice(-1, None))


def over_motion(f: Array, foretold: Array, moments: slice) -> float:
    """The largest distance in some moments, over how far the outputs have moved in the end."""
    motion = float(np.linalg.norm(f[-1] - f[0]))
    distances = np.sqrt(np.square(f - foretold)[moments].sum((1, 2)))
    return float(distances.max()) / motion if motion else math.nan


def errors(run: RunSpec, f: Array, whose: str) -> dict[str, float]:
    """The test error: root mean square, or for other losses than squares the mean loss of a test point."""
    given = problem(run)
    if given.y_test is None:
        return {}
    y = given.y_test.numpy()
    if isinstance(given.loss, Squared):
        return {f"error_{whose}": float(np.sqrt(np.mean(np.square(f - y))))}
    value = given.loss.value(given.y_test.new_tensor(f), given.y_test)
    return {f"error_{whose}": float(value) / len(y)}
