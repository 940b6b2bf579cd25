"""Traces, as a collector receives them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.service.examples import RUN
from tests.service.server import Server, eventually

traces: Any = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    spans: list[Any]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        sent = traces.ExportTraceServiceRequest.FromString(content)
        self.spans += [s for r in sent.resource_spans for scope in r.scope_spans for s in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    spans: list[Any] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Collector", (Collector,), {"spans": spans}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_request_and_its_job_are_traced(tmp_path: Path, collector: tuple[str, list[Any]]) -> None:
    endpoint, spans = collector
    server = Server(tmp_path, "double", NTK_OTLP_ENDPOINT=endpoint)
    server.start()
    try:
        sent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        run = server.client.post("/runs", json=RUN, headers=sent).json()["id"]
        eventually(lambda: server.show(run)["status"] == "succeeded")
        assert server.stop() == 0, server.log.read_text()
    finally:
        server.close()
    (asked,) = [span for span in spans if span.name == "POST /runs"]
    told = {each.key: each.value for each in asked.attributes}
    assert (asked.trace_id.hex(), asked.parent_span_id.hex()) == (TRACE, PARENT)
    assert told["http.response.status_code"].int_value == 202
    assert told["ntk.location"].string_value == f"/runs/{run}"
    jobs = [each.value.string_value for span in spans if span.name == "job" for each in span.attributes]
    assert jobs == [run]
