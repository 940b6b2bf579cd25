"""What a regime report costs, and whether that is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ntkengine.regime import RegimeSpec
from ntkengine.spec import to_jsonable
from service.runs.limits import check_model, check_regime
from service.settings import Settings

ASKED = ("model", "training", "seeds", "tolerance", "advise")
NUMBERS = 60.0  # that are kept of a seed, as are the curves


def check(spec: RegimeSpec, settings: Settings) -> None:
    """Refuse what does not hold together, is too wide, or would take too long or too much memory.

    Raises:
        EngineError: with the pointer of what is wrong, or the estimate and the limit.
    """
    check_model(spec.model, settings)  # first: the rest takes longer the larger the network is
    spec.check()
    check_regime(spec, settings)


def facts(spec: RegimeSpec, settings: Settings) -> Mapping[str, Any]:
    """What can be said of a report before it starts."""
    asked = to_jsonable(spec)
    return {
        "threads": settings.job_threads,
        "request": {name: asked[name] for name in ASKED},
        "plan": spec.plan(),
        "width": spec.own.width,
        "widths": [case.width for case in spec.cases()],
    }


def disk_bytes(spec: RegimeSpec) -> float:
    """Of the numbers of all seeds."""
    networks = len(spec.cases()) + len(spec.probes()) + 2  # an advice is tried twice at most
    return 8.0 * NUMBERS * spec.seeds * networks
