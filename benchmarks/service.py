"""What the service costs over loopback: `python -m benchmarks.service`. Prints a table of measured numbers.

A small kernel is compared with an application of the same framework that returns a constant.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import httpx

from benchmarks.service_load import load
from benchmarks.stamped import STAMPS
from service.store.database import connect
from service.store.jobs import JobStore, NewEvent
from service.store.schema import migrate

REQUESTS = 500
POINTS = 100_000
BATCH = 1_000
CONSTANT = (
    "from fastapi import FastAPI\napp = FastAPI()\n@app.post('/kernel')\ndef kernel(): return {'ntk': 1}\n"
)
DENSE: dict[str, Any] = {"layers": [{"kind": "dense"}, {"kind": "relu"}, {"kind": "dense", "width": 1}]}
SMALL = {"model": DENSE, "x1": [[float(i), 1.0] for i in range(8)], "of": {"kind": "infinite"}}
LONG = {
    "model": {"layers": [{"kind": "dense", "width": 2}]},
    "data": {"x": [[1.0]], "y": [[1.0, 0.0]]},
    "training": {"kind": "gradient_descent", "learning_rate": 1e-6, "steps": POINTS},
    "record": [{"what": "loss", "schedule": {"kind": "every", "steps": 1}}],
}


@contextmanager
def serving(
    command: list[str], port: int, probe: str, **environment: str
) -> Iterator[tuple[httpx.Client, int]]:
    """A server in a process of its own: a client of it, and its process id."""
    process = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
    try:
        while not _answers(client, probe):
            time.sleep(0.01)
        yield client, process.pid
    finally:
        client.close()
        process.terminate()
        process.wait()


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code < 500
    except httpx.TransportError:
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def milliseconds(call: Callable[[], object], times: int) -> list[float]:
    """Wall times of single calls, after some that are not counted."""
    found = []
    for _ in range(times + 20):
        begin = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - begin))
    return sorted(found[20:])


def requests(client: httpx.Client) -> str:
    """One client, one request after the other."""
    found = milliseconds(lambda: client.post("/kernel", json=SMALL).raise_for_status(), REQUESTS)
    p50, p99 = statistics.median(found), found[int(0.99 * len(found))]
    return f"{1000 * len(found) / sum(found):.0f} requests/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms"


def resident(pid: int) -> float:
    """MiB of the process itself, without its computing processes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def points(client: httpx.Client, stamps: Path) -> Iterator[tuple[str, str]]:
    """A run of many points: how fast they are stored and read, and how late they come to a reader."""
    run = client.post("/runs", json=LONG).raise_for_status().json()["id"]
    read = asyncio.run(arrivals(str(client.base_url), run))
    committed = [float(line) for line in stamps.read_text().split()]
    late = [(first - at, last - at) for at, (first, last) in zip(committed, read, strict=True)]
    first, last = zip(*late, strict=True)
    shown = client.get(f"/runs/{run}", params={"fields": ""}).json()
    begun, ended = (datetime.fromisoformat(shown[name]) for name in ("started_at", "ended_at"))
    seconds = (ended - begun).total_seconds()
    number = shown["progress"]["points"]
    yield "points, training included", f"{number / seconds:,.0f}/s"
    told = " ms, to its last event ".join(f"{1000 * statistics.median(each):.1f}" for each in (first, last))
    yield (
        f"batch of {number // len(first):,} points, from its commit to its first event at a client",
        f"{told} ms",
    )
    thinned = milliseconds(lambda: client.get(f"/runs/{run}").raise_for_status(), 10)
    yield f"GET of a run with {POINTS:,} points, thinned", f"{statistics.median(thinned):.0f} ms"


def stored(directory: Path) -> str:
    """Points a second that the store takes, in transactions of a segment each, as the service has it."""
    engine = connect(f"sqlite:///{directory / 'points.sqlite'}")
    migrate(engine)
    store, rows = JobStore(engine), {"kind": "run", "status": "running", "spec": "{}", "facts": "{}"}
    store.create({"id": "one", "created_at": "2026", **rows})
    begin = time.perf_counter()
    for start in range(0, POINTS, BATCH):
        new = [NewEvent("point", n, float(n), values={"loss": "0.125"}) for n in range(start, start + BATCH)]
        changes = {"segment": start // BATCH + 1}
        assert store.advance("one", {"segment": [start // BATCH]}, changes, new, at="2026")  # noqa: S101
    seconds = time.perf_counter() - begin
    engine.dispose()
    return f"{POINTS / seconds:,.0f}/s, {1000 * BATCH * seconds / POINTS:.0f} ms for {BATCH:,}"


async def arrivals(base: str, run: str) -> list[tuple[float, float]]:
    """When the first and the last event of each segment were read here, in seconds since 1970."""
    found, headers, first = [], {"Accept": "application/x-ndjson"}, None
    async with (
        httpx.AsyncClient(base_url=base, timeout=120) as client,
        client.stream("GET", f"/runs/{run}/events", headers=headers) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith('{"kind":"started"'):
                continue
            first = first or time.time()
            if line.startswith('{"kind":"progress"'):
                found.append((first, time.time()))
                first = None
    return found


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "constant.py").write_text(CONSTANT)
        port = free_port()
        uvicorn = ["-m", "uvicorn", "constant:app", "--port", str(port), "--app-dir", directory]
        with serving([*uvicorn, "--log-level", "error"], port, "/") as (client, _):
            print(f"a constant: {requests(client)}")
        begin, port = time.perf_counter(), free_port()
        serve = ["-m", "benchmarks.stamped", "serve", "--port", str(port), "--data-dir", directory]
        stamps = Path(directory, "stamps")
        with serving(serve, port, "/healthz", NTK_LOG_LEVEL="error", **{STAMPS: str(stamps)}) as (
            client,
            pid,
        ):
            print(f"start until it answers: {time.perf_counter() - begin:.1f} s")
            while not client.get("/readyz").is_success:
                time.sleep(0.01)
            print(f"start until it can compute: {time.perf_counter() - begin:.1f} s")
            print(f"idle memory: {resident(pid):.0f} MiB")
            print(f"kernel 8 x 8: {requests(client)}")
            print(f"points that the store takes: {stored(Path(directory))}")
            for name, value in chain(points(client, stamps), load(client)):
                print(f"{name}: {value}", flush=True)


if __name__ == "__main__":
    main()
