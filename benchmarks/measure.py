"""Time and memory of a call in a process of its own. Both environments import this."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

LONG = 10.0  # seconds; what takes longer is run once
REPEATS, TOTAL = 5, 1.0  # others at least so often, and so many seconds in all


def measure(
    call: Callable[[], Any], arrays: Callable[[Any], Any], out: str, *, about: Mapping[str, Any] | None = None
) -> None:
    """Print seconds of some calls and the process's peak as JSON, and what else is known `about` them; save
    the result where `out` names a file.

    The first call counts only if it is so long that it is the only one. No result is held in another call.
    """
    base = peak_mb()
    start = time.perf_counter()
    result = call()
    seconds = [time.perf_counter() - start]
    if seconds[0] < LONG:
        result = None
        seconds = repeated(call)
    facts = {"seconds": seconds, "peak_mb": peak_mb(), "base_mb": base, **(about or {})}
    if out:
        import numpy as np

        np.save(out, arrays(call() if result is None else result))
    print(json.dumps(facts))


def repeated(call: Callable[[], Any]) -> list[float]:
    """Seconds of some calls."""
    seconds: list[float] = []
    while len(seconds) < REPEATS or sum(seconds) < TOTAL:
        seconds.append(seconds_of(call))
    return seconds


def seconds_of(call: Callable[[], Any]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_mb() -> int:
    """Largest resident memory of this process so far, in MB of 1024^2 bytes.

    `getrusage` would do, had a child not its parent's value to start from.
    """
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024
