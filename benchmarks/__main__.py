"""`make bench`: what it costs. A benchmark is a function in `BENCHMARKS` that returns seconds by label."""

import subprocess
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from benchmarks import kernels


def imports() -> dict[str, float]:
    """Start-up: what a process pays before it does anything."""
    seconds = {}
    for name in ("service.app", "torch"):
        command = [sys.executable, "-c", f"import {name}"]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        seconds[f"a process that imports {name}"] = time.perf_counter() - start
    return seconds


BENCHMARKS: list[Callable[[], dict[str, float]]] = [imports, kernels.infinite, kernels.empirical]


def main() -> None:
    """Run all and print a table."""
    kernels.check()
    table = Table("what", "seconds, or a ratio of two")
    for benchmark in BENCHMARKS:
        for label, seconds in benchmark().items():
            table.add_row(label, f"{seconds:.3g}")
    Console().print(table)


if __name__ == "__main__":
    main()
