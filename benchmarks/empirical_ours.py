"""Our side of an empirical case:
python -m benchmarks.empirical_ours NAME IMPLEMENTATION [OUT.npy].

It says which implementation `auto` is.
"""

import sys
from typing import Any

import torch

from benchmarks.empirical_cases import EMPIRICAL_BY_NAME
from benchmarks.empirical_networks import built
from benchmarks.measure import measure, peak_mb
from ntkengine import empirical_ntk
from ntkengine.empirical import empirical_plan
from ntkengine.empirical.plan import MEMORY_BUDGET


def main(name: str, implementation: str, out: str = "") -> None:
    """Print one line of JSON."""
    case = EMPIRICAL_BY_NAME[name]
    module, x = built(case.network), torch.from_numpy(case.inputs())
    budget = (case.memory_mb - peak_mb()) * 1024**2 if case.memory_mb else MEMORY_BUDGET
    how: dict[str, Any] = {"outputs": case.outputs, "implementation": implementation, "budget": budget}
    plan = empirical_plan(module, x, **how)
    about = {
        "implementation": plan.implementation,
        "reason": plan.reason,
        "planned_mb": plan.bytes // 1024**2,
    }
    measure(lambda: empirical_ntk(module, x, **how), lambda found: found.numpy(), out, about=about)


if __name__ == "__main__":
    main(*sys.argv[1:])
