"""`make bench`: what it costs. A benchmark is a function in `BENCHMARKS` that returns seconds by label."""

import time
from collections.abc import Callable
from importlib import import_module

from rich.console import Console
from rich.table import Table


def imports() -> dict[str, float]:
    """Start-up: what a process pays before it does anything."""
    seconds = {}
    for name in ("service.app", "torch"):
        start = time.perf_counter()
        import_module(name)
        seconds[f"import {name}"] = time.perf_counter() - start
    return seconds


BENCHMARKS: list[Callable[[], dict[str, float]]] = [imports]


def main() -> None:
    """Run all and print a table."""
    table = Table("what", "seconds")
    for benchmark in BENCHMARKS:
        for label, seconds in benchmark().items():
            table.add_row(label, f"{seconds:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
