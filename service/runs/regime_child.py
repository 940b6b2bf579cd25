"""What the process of a regime report does: measure networks one by one, and say what that shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ntkengine.regime import OnnxRegimeSpec, RegimeSpec, Step, onnx_regime_report, regime_report
from ntkengine.spec import from_jsonable
from service.encoding import Message
from service.store.files import JobFiles


def report(request: Message) -> Iterator[Message]:
    """The report that `request` describes, a message for each stretch of the work; the last has the result.

    The checkpoint has the numbers of all networks that are measured: a crash does not train those again.
    """
    import torch

    job = request.header
    torch.set_num_threads(job["facts"]["threads"])
    files = JobFiles(Path(job["directory"]))
    checkpoint = files.load_checkpoint(job["checkpoint"]) if job["checkpoint"] else None
    for step in steps(job, checkpoint):
        told: dict[str, Any] = {
            "points": [],
            "checkpoint": files.save_checkpoint(step.checkpoint) if step.checkpoint else None,
            "progress": step.progress,
            "outcome": None,
            "detail": {},
        }
        yield Message(told if step.report is None else {**told, "result": step.report})


def steps(job: Mapping[str, Any], checkpoint: dict[str, np.ndarray] | None) -> Iterator[Step]:
    """The report on a network of a spec, or of a file."""
    if "onnx" in job["spec"]:
        return onnx_regime_report(
            from_jsonable(OnnxRegimeSpec, job["spec"]), checkpoint, **job["facts"]["limits"]
        )
    spec = from_jsonable(RegimeSpec, job["spec"])
    return regime_report(spec, checkpoint, segment_seconds=job["segment_seconds"])
