"""A trainer with exact control over pace, with the engine's interface and an algorithm to follow by hand.

Descent on `|w|^2 / 2` from a seeded start. `NTK_TEST_PACE` is the wall time of a step, so that a test can
catch a run in the middle; `NTK_TEST_LARGE` gives each point a square array of three times that side (30 is
too large for an event), `NTK_TEST_BALLAST` each checkpoint so many bytes to write.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ntkengine.dynamics import Checkpoint, Outcome, Point, RunSpec, Segment
from ntkengine.errors import NumericalError
from service.encoding import Message
from service.runs import child

DIVERGES = 1313  # the seed whose run the trainer refuses to go on with
EXITS = 1414  # the seed whose run takes its process down, each time
HOARDS = 1515  # the seed whose run takes all the memory that it can get


def warm() -> None:
    """There is nothing to load."""


def kernel(request: Message) -> Message:
    """The Gram matrix of `x1`; the process dies or hangs where the model's output scale says so."""
    scale = request.header["model"]["output_scale"]
    if scale == EXITS:
        os._exit(3)
    x = np.array(request.header["x1"])
    return Message({"dtype": "float64", "outputs": "mean", "pid": os.getpid()}, {"ntk": x @ x.T})


def train(request: Message) -> Iterator[Message]:
    return child.segments(request, descend)


def descend(
    spec: RunSpec, checkpoint: Checkpoint | None = None, *, segment_seconds: float, calm: bool = False
) -> Iterator[Segment]:
    """The segments of a run; `calm`, at any pace and without the accidents of some seeds."""
    training: Any = spec.training
    pace = 0.0 if calm else float(os.environ.get("NTK_TEST_PACE", "0"))
    ballast = np.zeros(int(os.environ.get("NTK_TEST_BALLAST", "0")), dtype=np.uint8)
    if checkpoint is None:
        checkpoint = {
            "w": np.random.default_rng(spec.seed or 0).normal(size=3),
            "step": np.array(-1),
            "segment": np.array(0),
        }
    w, step, index = checkpoint["w"].copy(), int(checkpoint["step"]), int(checkpoint["segment"])
    if spec.seed == DIVERGES:
        raise NumericalError("the loss is not finite", pointer="/training/learning_rate", hint="lower it")
    while step < training.steps:
        points, began = [], time.monotonic()
        while step < training.steps and time.monotonic() - began < segment_seconds:
            step += 1
            w = w if step == 0 else w - training.learning_rate * w
            points.append(Point(step, step * training.learning_rate, _record(w)))
            if spec.seed == EXITS and step == training.steps // 2 and not calm:
                os._exit(9)
            if spec.seed == HOARDS and step == training.steps // 2 and not calm:
                _hoard()
            time.sleep(pace)
        index += 1
        yield Segment(
            index - 1,
            tuple(points),
            {"w": w.copy(), "step": np.array(step), "segment": np.array(index), "ballast": ballast},
            step / training.steps,
            Outcome.STOPPED if step >= training.steps else None,
            {"steps": step} if step >= training.steps else {},
        )


def _hoard() -> None:
    kept = []
    while True:
        kept.append(np.ones(2**22))


def _record(w: Any) -> dict[str, Any]:
    values = {"loss": float(w @ w) / 2, "outputs": w.copy(), "slopes": {"measured": -w, "predicted": -w}}
    if "NTK_TEST_LARGE" in os.environ:
        row = np.tile(w, int(os.environ["NTK_TEST_LARGE"]))
        values["kernel"] = np.outer(row, row)
    return values
