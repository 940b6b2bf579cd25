"""What the process of a sweep does: train combinations one by one, and send a row as each is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ntkengine.spec import from_jsonable
from ntkengine.sweeps import SweepSpec, sweep
from service.encoding import Message, dumps
from service.store.files import JobFiles

ROW = "row"  # the quantity under which rows are kept


def rows(request: Message) -> Iterator[Message]:
    """The sweep that `request` describes, a message for each stretch of the work; the last has the exponents.

    Rows are points, so that they are committed, sent and, where a crash brings them again, dropped as points
    are. The checkpoint has all that is done: a crash does not train it again.
    """
    import torch

    job = request.header
    torch.set_num_threads(job["facts"]["threads"])
    files = JobFiles(Path(job["directory"]))
    spec = from_jsonable(SweepSpec, job["spec"])
    checkpoint = files.load_checkpoint(job["checkpoint"]) if job["checkpoint"] else None
    for step in sweep(spec, checkpoint, segment_seconds=job["segment_seconds"]):
        told: dict[str, Any] = {
            "points": [] if step.row is None else [point(step.row)],
            "checkpoint": files.save_checkpoint(step.checkpoint),
            "progress": step.progress,
            "counts": {"combinations": {"done": step.done, "total": spec.count}},
            "outcome": None,
            "detail": {},
        }
        result = None if step.result is None else {"exponents": step.result["exponents"]}
        yield Message(told if result is None else {**told, "result": result})


def point(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a point is stored: its place is its number."""
    return {"step": row["index"], "time": float(row["index"]), "values": {ROW: dumps(row)}}
