"""`make bench`: what it costs, beside neural-tangents and beside what cannot be beaten, on this machine.

Quote ratios of one run alone: seconds depend on what else the machine does.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import empirical, versus

COLUMNS = {
    "ours s": ("ours_seconds", ".3g"),
    "peer s": ("peer_seconds", ".3g"),
    "peer / ours": ("peer_over_ours", ".2f"),
    "ours MB": ("ours_peak_mb", "d"),
    "peer MB": ("peer_peak_mb", "d"),
    "floor s": ("floor_seconds", ".3g"),
    "ours / floor": ("ours_over_floor", ".2f"),
    "difference": ("difference", ".0e"),
    "on diagonal": ("difference_on_diagonal", ".0e"),
}
NO_PEER = (
    "THE PEER WAS NOT MEASURED: there is no .venv-peers; scripts/peers.sh makes it, or says why it cannot."
)


def imports() -> dict[str, float]:
    """Start-up: what a process pays before it does anything."""
    seconds = {}
    for name in ("service.app", "torch"):
        command = [sys.executable, "-c", f"import {name}"]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        seconds[f"a process that imports {name}"] = time.perf_counter() - start
    return seconds


OTHERS: dict[str, Callable[[], dict[str, float]]] = {"imports": imports}


def versus_table(rows: list[dict[str, Any]]) -> Table:
    """Ours, the peer's and the floor's."""
    table = Table("work", *COLUMNS)
    for row in rows:
        cells = ["" if row[key] is None else format(row[key], form) for key, form in COLUMNS.values()]
        if row["not_yet"]:
            cells[0] = "not yet"
        table.add_row(row["work"], *cells)
    return table


def implementations_table(rows: list[dict[str, Any]]) -> Table:
    """Everything that was measured, beside the fastest of its side."""
    table = Table("work", "tool", "implementation", "s", "MB", "s / best of its side")
    for row in rows:
        for each in row["implementations"]:
            name = each["implementation"] + " (auto)" * (each["asked"] == "auto")
            cells = [row["work"], each["tool"], name]
            if each["failure"]:
                cells.append(each["failure"])
            else:
                same = [other for other in row["implementations"] if other["side"] == each["side"]]
                ratio = each["seconds"] / min(other["seconds"] for other in same if other["seconds"])
                cells += [f"{each['seconds']:.3g}", str(each["peak_mb"]), f"{ratio:.2f}"]
            table.add_row(*cells)
    return table


def planner_table(rows: list[dict[str, Any]]) -> Table:
    """What the plan of an empirical kernel chose, beside the best of ours."""
    table = Table("work", "chosen", "best", "chosen / best", "aim")
    for row in rows:
        if plan := row["planner"]:
            ratio = plan["chosen_over_best"]
            style = "bold red" if ratio > plan["aim"] else ""
            table.add_row(
                row["work"], plan["chosen"], plan["best"], f"{ratio:.2f}", f"{plan['aim']}", style=style
            )
    return table


def others_table(results: dict[str, float]) -> Table:
    """The rest."""
    table = Table("what", "seconds, or a ratio of two")
    for label, seconds in results.items():
        table.add_row(label, f"{seconds:.3g}")
    return table


PACKAGES = ("ntkengine", "torch", "numpy")
PEERS_PACKAGES = ("neural-tangents", "jax", "jaxlib", "numpy", "nngeometry")


def versions(peer: Path | None) -> dict[str, dict[str, str]]:
    """What is compared with what."""
    program = (
        "import sys, json, importlib.metadata as m; "
        "print(json.dumps({n: d.version for n in sys.argv[1:] for d in m.distributions(name=n)}))"
    )
    found = {"ours": [sys.executable, "-c", program, *PACKAGES]}
    if peer:
        found["peers"] = [str(peer), "-c", program, *PEERS_PACKAGES]
    environment = os.environ | {"PYTHONPATH": str(versus.NNGEOMETRY)}
    known = {side: subprocess.check_output(command, env=environment) for side, command in found.items()}
    return {side: json.loads(text) for side, text in known.items()}


def machine() -> dict[str, Any]:
    """Where and when, and how busy it was before."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg(),
    }


def processor() -> str:
    """Its name, where Linux tells."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def arguments() -> argparse.Namespace:
    """What to run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, without the long cases")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="names with this word; repeatable"
    )
    parser.add_argument("--ours", action="store_true", help="without peers: how well plans choose among ours")
    parser.add_argument("--rounds", type=int, help="processes for each number; 3, or 1 if quick")
    parser.add_argument(
        "--patience", type=float, default=empirical.PATIENCE, help="seconds for an empirical kernel"
    )
    parser.add_argument("--json", type=Path, default=versus.ROOT / "benchmarks/results/latest.json")
    return parser.parse_args()


def main() -> int:
    """Run, print tables, write them as JSON; 1 if anything failed or kernels differ."""
    given = arguments()
    if hasattr(os, "sched_setaffinity"):  # children inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: versus.THREADS])
    rounds = given.rounds or (1 if given.quick else 3)
    console, peer = Console(width=150), None if given.ours else versus.peer_python()
    report: dict[str, Any] = {
        **machine(),
        "versions": versions(peer),
        "threads": versus.THREADS,
        "peer": peer is not None or given.ours,
        "rows": [],
    }
    for row in chain(
        versus.rows(given.only, quick=given.quick, rounds=rounds, peer=peer),
        empirical.rows(
            given.only,
            quick=given.quick,
            rounds=rounds,
            patience=given.patience,
            peer=peer,
            alone=given.ours,
        ),
    ):
        report["rows"].append(row.summary())
        keep(report, given.json)  # what was measured is not lost if the rest is stopped
        console.print(f"measured: {row.work}", style="dim")
    others = [
        call() for name, call in OTHERS.items() if not given.only or any(word in name for word in given.only)
    ]
    report["others"] = {label: value for results in others for label, value in results.items()}
    report["load_after"] = os.getloadavg()
    console.print(versus_table(report["rows"]))
    if any(row["implementations"] for row in report["rows"]):
        console.print(implementations_table(report["rows"]))
        console.print(planner_table(report["rows"]))
    if report["others"]:
        console.print(others_table(report["others"]))
    keep(report, given.json)
    return verdict(console, report)


def keep(report: dict[str, Any], path: Path) -> None:
    """Write what is measured so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def verdict(console: Console, report: dict[str, Any]) -> int:
    """Say what is missing or wrong."""
    for row in report["rows"]:
        if row["not_yet"]:
            console.print(f"not yet: {row['work']}: {row['not_yet']}", markup=False)
    if not report["peer"]:
        console.print(NO_PEER, style="bold red")
    failures = [f"FAILED: {row['work']}: {failure}" for row in report["rows"] for failure in row["failures"]]
    for failure in failures:
        console.print(failure, style="bold red", markup=False)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
