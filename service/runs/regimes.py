"""What a regime report costs, and whether that is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ntkengine.regime import OnnxRegimeSpec, RegimeSpec
from ntkengine.spec import to_jsonable
from service.runs.limits import check_model, check_onnx_regime, check_regime
from service.settings import Settings

ASKED = ("model", "training", "seeds", "tolerance", "advise")
ASKED_OF_FILES = ("optimizer", "steps", "loss", "batch_size", "seeds", "trainable", "dtype")
NUMBERS = 60.0  # that are kept of a seed, as are the curves

Spec = RegimeSpec | OnnxRegimeSpec


def check(spec: Spec, settings: Settings) -> None:
    """Refuse what does not hold together, is too wide, or would take too long or too much memory. What a file
    would cost is known where it is read, in the job's process.

    Raises:
        EngineError: with the pointer of what is wrong, or the estimate and the limit.
    """
    if isinstance(spec, OnnxRegimeSpec):
        spec.check()
        check_onnx_regime(spec, settings)
        return
    check_model(spec.model, settings)  # first: the rest takes longer the larger the network is
    spec.check()
    check_regime(spec, settings)


def facts(spec: Spec, settings: Settings) -> Mapping[str, Any]:
    """What can be said of a report before it starts."""
    asked = to_jsonable(spec)
    if isinstance(spec, OnnxRegimeSpec):
        return {
            "threads": settings.job_threads,
            "request": {name: asked[name] for name in ASKED_OF_FILES},
            "plan": {"cases": 1},
            "width": None,
            "widths": [],
            "limits": {"max_flops": settings.max_job_flops, "max_bytes": settings.max_bytes},
        }
    return {
        "threads": settings.job_threads,
        "request": {name: asked[name] for name in ASKED},
        "plan": spec.plan(),
        "width": spec.own.width,
        "widths": [case.width for case in spec.cases()],
    }


def disk_bytes(spec: Spec) -> float:
    """Of the numbers of all seeds."""
    if isinstance(spec, OnnxRegimeSpec):
        return 8.0 * NUMBERS * spec.seeds
    networks = len(spec.cases()) + len(spec.probes()) + 2  # an advice is tried twice at most
    return 8.0 * NUMBERS * spec.seeds * networks
