"""What is counted, for Prometheus. Made by the composition root, given to who has something to count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """All that one service counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "ntk_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "ntk_http_seconds",
            "From the request's head to the answer's head.",
            ["method", "route"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "ntk_http_in_flight", "Requests being answered, streams too.", registry=self.registry
        )
        self.points = Counter(
            "ntk_points_stored", "Points of jobs that were committed.", registry=self.registry
        )
        self.lag = Histogram(
            "ntk_event_lag_seconds",
            "From when a job's change was written until a reader who waited for it was sent its events.",
            buckets=LAG_BUCKETS,
            registry=self.registry,
        )
        self.crashes = Counter(
            "ntk_child_crashes", "Jobs whose process died under them.", registry=self.registry
        )
        self.recoveries = Counter(
            "ntk_job_recoveries",
            "Jobs taken up again where their process, the server or the database was lost.",
            registry=self.registry,
        )

        self.compute_seconds = Counter(
            "ntk_compute_seconds",
            "Wall time of the processes that computed, by the key that they computed for.",
            ["key"],
            registry=self.registry,
        )

    def show_jobs(self, look: Callable[[], Overview | None]) -> None:
        """Tell of jobs what `look` finds whenever the metrics are asked for, and nothing where it cannot."""
        self.registry.register(_Jobs(look))


@dataclass(frozen=True)
class Overview:
    """The jobs at one moment."""

    by_status: Mapping[str, int]
    oldest_queued_seconds: float


class _Jobs(Collector):
    def __init__(self, look: Callable[[], Overview | None]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Nothing: the database is not asked when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The jobs now."""
        found = self._look()
        if found is None:
            return
        jobs = GaugeMetricFamily(
            "ntk_jobs", "Jobs by status; the depth of the queue is `queued`.", labels=["status"]
        )
        for status, count in found.by_status.items():
            jobs.add_metric([status], count)
        yield jobs
        yield GaugeMetricFamily(
            "ntk_queue_oldest_seconds",
            "How long the oldest queued job has waited; 0 if none waits.",
            value=found.oldest_queued_seconds,
        )
