"""What the computing processes do: kernels; and runs, as functions of (spec, checkpoint) that yield segments.

They know neither the job layer nor HTTP. A run's directory holds the arrays and checkpoints that its messages
refer to; they are on disk before the message is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ntkengine import dynamics
from ntkengine.dynamics import Checkpoint, Point, RunSpec, Segment
from ntkengine.experiments import EXPERIMENTS
from ntkengine.kernels import KernelSpec, compute_kernel
from ntkengine.spec import from_jsonable
from service.encoding import Message, dumps
from service.store.files import JobFiles

# Larger arrays are files, and readers get a reference.
MOST_ENTRIES_INLINE = 4096

Trainer = Callable[..., Iterator[Segment]]


def warm() -> None:
    """Load all that work will need, by doing a little of it; a fork follows, so it may leave no thread."""
    import torch

    torch.set_num_threads(1)  # more only costs on small work, and makes sums depend on their number
    spec = next(iter(EXPERIMENTS.values())).spec
    compute_kernel(KernelSpec(model=spec.model, x1=spec.data.x))
    if torch.version.cuda is None:  # else autograd would start a thread for each GPU
        next(dynamics.train(spec, segment_seconds=0.0))


def kernel(request: Message) -> Message:
    """The kernel that the request's header, a KernelSpec in JSON, describes."""
    spec = from_jsonable(KernelSpec, request.header)
    begin = time.perf_counter()
    result = compute_kernel(spec)
    facts = {
        "dtype": result.dtype,
        "outputs": result.outputs,
        "method": result.method,
        "plan": result.plan,
        "scaling": result.scaling,
        "diagnostics": result.diagnostics,
        "warnings": result.warnings,
        "seconds": time.perf_counter() - begin,
    }
    return Message(facts, result.kernels)


def train(request: Message) -> Iterator[Message]:
    """The segments of the run that `request` describes."""
    return segments(request, dynamics.train)


def segments(request: Message, trainer: Trainer) -> Iterator[Message]:
    """The segments of `trainer` as messages: points as JSON texts by quantity, the checkpoint as a digest."""
    job = request.header
    files = JobFiles(Path(job["directory"]))
    spec = from_jsonable(RunSpec, job["spec"])
    checkpoint: Checkpoint | None = files.load_checkpoint(job["checkpoint"]) if job["checkpoint"] else None
    describe = Describer(files, job["arrays_href"])
    for segment in trainer(spec, checkpoint, segment_seconds=job["segment_seconds"]):
        yield Message(
            {
                "points": [describe.point(point) for point in segment.points],
                "checkpoint": files.save_checkpoint(segment.checkpoint),
                "progress": segment.progress,
                "outcome": segment.outcome,
                "detail": segment.detail,
            }
        )


class Describer:
    """Turns recorded values into what is stored."""

    def __init__(self, files: JobFiles, href: str) -> None:
        self._files = files
        self._href = href

    def point(self, point: Point) -> dict[str, Any]:
        """A point with each of its values as a JSON text."""
        values = {what: dumps(self._value(value)) for what, value in point.values.items()}
        return {"step": point.step, "time": float(point.time), "values": values}

    def _value(self, value: Any) -> Any:
        if hasattr(value, "items"):
            return {name: self._value(inner) for name, inner in value.items()}
        if np.size(value) <= MOST_ENTRIES_INLINE:
            return value
        digest = self._files.save_array(value)
        facts = {"digest": digest, "shape": value.shape, "dtype": str(value.dtype)}
        return {"kind": "array", **facts, "href": f"{self._href}/{digest}"}
