"""What is counted, read as Prometheus reads it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.service.examples import KERNEL, RUN, changed
from tests.service.server import Server, eventually

PACE = {"NTK_TEST_PACE": "0.005", "NTK_SEGMENT_SECONDS": "0.1", "NTK_CONCURRENT_RUNS": "1"}
LONG = changed(RUN, "/training/steps", 200)
openmetrics_of: Callable[[str], Iterator[Metric]] = parse_openmetrics  # it has no types
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, so that nobody else moves its counts."""
    server = Server(tmp_path_factory.mktemp("metrics"), "double", **PACE)
    server.start()
    yield server
    server.close()


def samples(server: Server) -> Samples:
    text = server.client.get("/metrics").text
    found = [sample for family in parse(text) for sample in family.samples]
    by_name = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(by_name) == len(found)  # no series twice
    return by_name


def count(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def test_every_family_is_described_and_parsed(server: Server) -> None:
    server.client.get("/healthz")
    plain = server.client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    openmetrics = server.client.get("/metrics", headers=accept)
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")
    for families in (list(parse(plain.text)), [*openmetrics_of(openmetrics.text)]):
        ours = [family for family in families if family.name.startswith("ntk_")]
        assert len(ours) >= 9
        assert all(family.documentation and family.type != "unknown" for family in ours)
        assert len({family.name for family in families}) == len(families)


def test_requests_by_route_and_status(server: Server) -> None:
    def counted(route: str, status: str, method: str = "GET") -> float:
        labels = {"route": route, "status": status, "method": method}
        return count(samples(server), "ntk_http_requests_total", **labels)

    before = counted("/runs/{job_id}", "404"), counted("other", "404"), counted("/kernel", "200", "POST")
    for name in ("a", "b", "c"):
        server.client.get(f"/runs/{name}")
        server.client.get(f"/made-up/{name}")
    server.client.post("/kernel", json=KERNEL)
    server.client.request("BREW", "/coffee")
    after = counted("/runs/{job_id}", "404"), counted("other", "404"), counted("/kernel", "200", "POST")
    assert [new - old for old, new in zip(before, after, strict=True)] == [3, 3, 1]
    found = samples(server)
    labels = [dict(pairs) for name, pairs in found if name == "ntk_http_requests_total"]
    assert not [each for each in labels if "made-up" in each["route"] or each["method"] == "BREW"]
    assert count(found, "ntk_http_seconds_count", route="/kernel", method="POST") >= 1
    assert count(found, "ntk_http_in_flight") == 1  # this one


def test_points_lag_crashes_recoveries(server: Server) -> None:
    before = samples(server)
    run_id = server.create(LONG)
    server.reach(run_id, 20)
    waiting = server.create(LONG)
    now = samples(server)
    assert count(now, "ntk_jobs", status="running") == 1
    assert count(now, "ntk_jobs", status="queued") == 1
    assert 0 < count(now, "ntk_queue_oldest_seconds") < 60
    os.kill(server.process_of(run_id), signal.SIGKILL)
    list(server.events(run_id))
    assert server.client.delete(f"/runs/{waiting}").status_code == 204
    after = samples(server)

    def moved(name: str) -> float:
        return count(after, name) - count(before, name)

    assert moved("ntk_points_stored_total") >= 201
    assert moved("ntk_child_crashes_total") == 1
    assert moved("ntk_job_recoveries_total") == 1
    assert moved("ntk_event_lag_seconds_count") >= 3
    assert 0 < moved("ntk_event_lag_seconds_sum") < 30
    assert count(after, "ntk_jobs", status="succeeded") - count(before, "ntk_jobs", status="succeeded") == 1
    assert count(after, "ntk_jobs", status="queued") == 0
    assert count(after, "ntk_queue_oldest_seconds") == 0


def test_history_is_no_lag(server: Server) -> None:
    run_id = server.create(changed(RUN, "/training/steps", 5))
    list(server.events(run_id))
    before = count(samples(server), "ntk_event_lag_seconds_count")
    list(server.events(run_id))
    assert count(samples(server), "ntk_event_lag_seconds_count") == before


def test_a_server_that_goes_on_counts_recoveries(tmp_path: Path) -> None:
    server = Server(tmp_path, "double", **PACE)
    server.start()
    run_id = server.create(LONG)
    server.reach(run_id, 20)
    server.kill()
    server.start()
    eventually(lambda: count(samples(server), "ntk_job_recoveries_total") == 1)
    list(server.events(run_id))
    found = samples(server)
    assert count(found, "ntk_child_crashes_total") == 0
    assert 0 < count(found, "ntk_points_stored_total") < 201  # the others were stored by the one before
    server.close()
