"""Traces for OpenTelemetry: a span for each request, in the trace that its sender began, and for each job.

Nothing is loaded and nothing sent unless the operator names a collector.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOW = "NTK_OTLP_ENDPOINT needs the extra `otel`: pip install 'ntkengine[otel]'"
SECONDS_BETWEEN = 2.0  # what is sent is collected for so long


class Tracing:
    """Sends spans to the collector at `endpoint` (OTLP over HTTP)."""

    def __init__(self, endpoint: str, version: str) -> None:
        if importlib.util.find_spec("opentelemetry.exporter") is None:
            raise RuntimeError(HOW)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        told = Resource.create({"service.name": "ntkengine", "service.version": version})
        self._provider = TracerProvider(resource=told)
        exporter = OTLPSpanExporter(endpoint=endpoint)
        processor = BatchSpanProcessor(exporter, schedule_delay_millis=1000 * SECONDS_BETWEEN)
        self._provider.add_span_processor(processor)
        self.tracer = self._provider.get_tracer("ntkengine", version)

    def of_jobs(self, job: Callable[[str], None]) -> Callable[[str], None]:
        """The same work on a job, with a span around it; one that is taken up again gets another."""

        def traced(job_id: str) -> None:
            with self.tracer.start_as_current_span("job", attributes={"ntk.job": job_id}):
                job(job_id)

        return traced

    def stop(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class Traced:
    """A span for each request, from its head to the last byte of its answer."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self.app = app
        self._tracer = tracing.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind, Status, StatusCode

        began = propagate.extract(dict(Headers(scope=scope).items()))
        with self._tracer.start_as_current_span(scope["method"], began, SpanKind.SERVER) as span:

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attributes(_facts(scope, message))
                    span.update_name(f"{scope['method']} {_route(scope)}")
                    if message["status"] >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            return await self.app(scope, receive, send_traced)


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", None) or "other"


def _facts(scope: Scope, answer: Message) -> dict[str, Any]:
    """By the names of OpenTelemetry's conventions for HTTP."""
    location = Headers(raw=answer["headers"]).get("location")
    return {
        "http.request.method": scope["method"],
        "http.route": _route(scope),
        "http.response.status_code": answer["status"],
        "url.path": scope["path"],
        "ntk.request_id": scope["state"]["request_id"],
        **({} if location is None else {"ntk.location": location}),
    }
