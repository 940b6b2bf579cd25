"""What the service costs where much goes on: many readers, large files, starting and stopping."""

from __future__ import annotations

import asyncio
import http.client
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx

READERS = 500
ROWS = 4000
ROUNDS = 7
INPUTS: dict[str, Any] = {"kind": "dataset", "name": "digits", "limit": 1400}
WATCHED: dict[str, Any] = {
    "model": {"layers": [{"kind": "dense", "width": 2}]},
    "data": {"x": [[1.0]], "y": [[1.0, 0.0]]},
    "training": {"kind": "gradient_descent", "learning_rate": 1e-6, "steps": 20_000},
    "record": [{"what": "loss", "schedule": {"kind": "every", "steps": 100}}],
}
# Its step is a few products of large matrices, a second and more in one call each.
HEAVY: dict[str, Any] = {
    "model": {"layers": [{"kind": "dense", "width": 6144}, {"kind": "relu"}, {"kind": "dense", "width": 6144},
                         {"kind": "relu"}, {"kind": "dense", "width": 10}]},
    "data": {"x": INPUTS, "y": INPUTS},
    "training": {"kind": "gradient_descent", "learning_rate": 1e-3, "steps": 1000},
    "record": [{"what": "loss"}],
}  # fmt: skip


def load(client: httpx.Client) -> Iterator[tuple[str, str]]:
    """Each measurement by name."""
    yield "run: POST until its process has begun", starts(client)
    yield "cancel inside a product of large matrices", cancels(client)
    yield f"finished {ROWS} x {ROWS} float32 kernel as .npy", throughput(client)
    yield f"{READERS} SSE readers of one run", asyncio.run(readers(str(client.base_url)))


def starts(client: httpx.Client) -> str:
    """From the request to the event `started`, as a client sees both, with a spare process warm."""
    found = []
    for _ in range(ROUNDS):
        time.sleep(4)  # the spare that the last one took is replaced
        begin = time.perf_counter()
        run = client.post("/runs", json=WATCHED).raise_for_status().json()["id"]
        with client.stream(
            "GET", f"/runs/{run}/events", headers={"Accept": "application/x-ndjson"}
        ) as events:
            lines = events.iter_lines()
            next(lines)
            started = time.perf_counter() - begin
            next(lines)
        found.append((started, time.perf_counter() - begin))
        client.delete(f"/runs/{run}")
    started, first = (statistics.median(column) for column in zip(*found, strict=True))
    return f"{1000 * started:.0f} ms, its first point {1000 * first:.0f} ms (medians of {ROUNDS})"


def cancels(client: httpx.Client) -> str:
    """The answer to cancel comes when the process is gone."""
    found = []
    for _ in range(3):
        run = client.post("/runs", json=HEAVY).raise_for_status().json()["id"]
        while client.get(f"/runs/{run}", params={"fields": ""}).json()["status"] != "running":
            time.sleep(0.05)
        time.sleep(5)
        begin = time.perf_counter()
        client.post(f"/runs/{run}/cancel").raise_for_status()
        found.append(time.perf_counter() - begin)
        client.delete(f"/runs/{run}")
    return f"{1000 * max(found):.0f} ms at most of {len(found)}"


def throughput(client: httpx.Client) -> str:
    """The best of some downloads, read into one buffer."""
    x = [[float(i % 97), float(i % 89)] for i in range(ROWS)]
    body = {"model": {"layers": [{"kind": "dense"}]}, "x1": x, "dtype": "float32",
            "of": {"kind": "infinite", "get": ["ntk"]}}  # fmt: skip
    job = (
        client.post("/kernel", json=body, headers={"Prefer": "respond-async"}).raise_for_status().json()["id"]
    )
    while client.get(f"/kernels/{job}").json()["status"] != "succeeded":
        time.sleep(0.1)
    rates = []
    for _ in range(5):
        connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port or 80)
        connection.request("GET", f"/kernels/{job}/data", headers={"Accept": "application/x-npy"})
        answer = connection.getresponse()
        buffer, size, begin = bytearray(1 << 20), 0, time.perf_counter()
        while read := answer.readinto(buffer):
            size += read
        rates.append(size / (time.perf_counter() - begin) / 1e6)
        connection.close()
        assert size > 4 * ROWS**2  # noqa: S101 (all of it came)
    return f"{max(rates):,.0f} MB/s (median {statistics.median(rates):,.0f})"


async def readers(base: str) -> str:
    """All of them get every event; how late each segment's end was at each of them."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=base, timeout=300, limits=limits) as client:
        run = (await client.post("/runs", json=WATCHED)).raise_for_status().json()["id"]
        begin = time.perf_counter()
        seen = await asyncio.gather(*(follow(client, run) for _ in range(READERS)))
        seconds = time.perf_counter() - begin
    counts = {len(ids) for ids, _ in seen}
    whole = all(ids == list(range(len(ids))) for ids, _ in seen)
    late = sorted(1000 * each for _, lates in seen for each in lates)
    return (
        f"{READERS * max(counts):,} events in {seconds:.1f} s; "
        f"{'each reader has all, in order' if whole and len(counts) == 1 else 'EVENTS ARE MISSING'}; "
        f"late by {statistics.median(late):.0f} ms (median), {late[int(0.99 * len(late))]:.0f} ms (p99)"
    )


async def follow(client: httpx.AsyncClient, run: str) -> tuple[list[int], list[float]]:
    """The ids of all events, and how late those were that end a segment."""
    ids, lates = [], []
    async with client.stream("GET", f"/runs/{run}/events") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("id:"):
                ids.append(int(line[3:]))
            elif line.startswith('data: {"kind":"progress"'):
                at = line.split('"at":"', 1)[1].split('"', 1)[0]
                lates.append((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())
    return ids, lates
