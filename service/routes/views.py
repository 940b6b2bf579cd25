"""Rows as answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from service.runs.states import Status
from service.store.jobs import Row, Series


def links(path: str, job_id: str) -> dict[str, str]:
    """Where to go on from a job; `path` is where those of its kind are found."""
    here = f"{path}/{job_id}"
    return {"self": here, "events": f"{here}/events", "cancel": f"{here}/cancel"}


def job(row: Row, path: str) -> dict[str, Any]:
    """What all jobs have."""
    names = ("id", "kind", "status", "created_at", "started_at", "ended_at", "seconds_left")
    return {
        **{name: row[name] for name in names},
        "meaning": Status(row["status"]).meaning,
        "error": json.loads(row["error"] or "null"),
        "links": links(path, row["id"]),
    }


def summary(run: Row) -> dict[str, Any]:
    """A RunSummary."""
    facts = json.loads(run["facts"])
    return {
        **job(run, "/runs"),
        **{name: run[name] for name in ("outcome", "experiment")},
        **{name: facts.get(name) for name in ("network", "rate_factor", "time_per_step", "time_unit")},
        "progress": {
            "fraction": run["progress"],
            "segments": run["segment"],
            **{name: run[name] for name in ("step", "time", "points", "seconds_left", "crashes")},
        },
    }


def kernel(row: Row) -> dict[str, Any]:
    """A KernelJob."""
    facts, counts = json.loads(row["facts"]), json.loads(row["counts"] or "null")
    common = job(row, "/kernels")
    here = common["links"]["self"]
    more = {name: f"{here}/{name}" for name in ("data", "preview", "zarr")}
    return {
        **common,
        "links": common["links"] | more,
        "progress": {"fraction": row["progress"], "crashes": row["crashes"], **(counts or {"tiles": None})},
        **{name: facts[name] for name in ("request", "shape", "plan")},
        "result": json.loads(row["result"] or "null"),
    }


def full(run: Row, spec: Any, series: dict[str, Series], asked_every: int) -> dict[str, Any]:
    """A RunView."""
    return {
        **summary(run),
        "spec": spec,
        "detail": json.loads(run["detail"] or "null"),
        "series": {name: _series(values, asked_every) for name, values in series.items()},
    }


def _series(found: Series, asked_every: int) -> dict[str, Any]:
    value = _columns(found.values)
    return {
        "step": found.steps,
        "time": found.times,
        "shape": _shape(value),
        "value": value,
        "total": found.total,
        "every": found.every,
        "thinned": found.every > asked_every,
    }


def _is_record(value: Any) -> bool:
    """Whether a value has named parts; a reference to an array is one value."""
    return hasattr(value, "items") and value.get("kind") != "array"


def _columns(values: list[Any]) -> Any:
    """Values with parts as one list per part."""
    if not values or not _is_record(values[0]):
        return values
    return {name: _columns([value[name] for value in values]) for name in values[0]}


def _shape(value: Any) -> Any:
    if hasattr(value, "items"):
        return {name: _shape(part) for name, part in value.items()}
    if value and hasattr(value[0], "items"):
        return None
    return list(np.shape(value))
