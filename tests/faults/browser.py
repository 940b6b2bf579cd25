"""A reader of server-sent events that comes back after each end, as browsers do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from tests.service.server import PATIENCE, JSONObject, Server


def watched(server: Server, run_id: str) -> Iterator[JSONObject]:
    """The run's events; after each broken connection those that follow the last whole one, until 204."""
    base = server.client.base_url
    last: dict[str, str] = {}
    with httpx.Client(base_url=base, headers={"Accept": "text/event-stream"}, timeout=PATIENCE) as browser:
        while True:
            try:
                with browser.stream("GET", f"/runs/{run_id}/events", headers=last) as answer:
                    if answer.status_code == 204:
                        return
                    for message in messages(answer.iter_lines()):
                        last = {"Last-Event-ID": message["id"]}
                        yield json.loads(message["data"])
            except httpx.TransportError:
                time.sleep(0.1)


def messages(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The fields of each event that has come whole."""
    fields: dict[str, Any] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "data" in fields:
                yield fields
            fields = {}
