"""What is counted, for Prometheus. Made by the composition root, given to who has something to count."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector


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
