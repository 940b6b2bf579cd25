"""What operators and tools ask for."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.app import Lock
from service.cli import listen
from service.routes.documentation import PROBLEM_JSON
from tests.service.server import JSONObject, eventually


def test_probes(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    eventually(lambda: client.get("/readyz").is_success)  # runs may just have taken all processes
    assert client.get("/readyz").json()["checks"] == {"database": "ok", "disk": "ok", "workers": "ok"}
    assert set(client.get("/version").json()) == {"version", "schema_version"}


def test_request_id(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    unsound = client.get("/healthz", headers={"X-Request-ID": "a b\tc"}).headers["x-request-id"]
    assert unsound != "a b\tc"
    assert len(unsound) == 32


def test_pages_are_there(client: httpx.Client) -> None:
    assert client.get("/").status_code == 200
    assert client.get("/docs").status_code == 200


def operations(document: JSONObject) -> list[tuple[str, JSONObject]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_all_is_documented(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (name, parameter["name"])
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            if int(status) >= 400:
                assert list(response["content"]) == [PROBLEM_JSON], (name, status)
    for model, schema in document["components"]["schemas"].items():
        assert schema.get("description"), model
        for name, field in schema.get("properties", {}).items():
            assert field.get("description") or name in {"kind", "what"}, (model, name)


def test_examples_in_the_documentation_run(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for name, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        for example in content.get("application/json", {}).get("examples", {}).values():
            answer = client.request(*name.split(" "), json=example["value"])
            assert answer.is_success, (name, answer.text)
            if answer.status_code == 202:
                assert client.delete(answer.headers["location"]).status_code == 204


def test_the_web_process_stays_light() -> None:
    program = "import sys, service.app; print(sorted({'torch', 'scipy', 'sklearn'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout == "[]\n"


def test_one_server_at_a_time(tmp_path: Path) -> None:
    first, second = Lock(tmp_path), Lock(tmp_path)
    first.take()
    with pytest.raises(RuntimeError, match="another server"):
        second.take()
    first.release()
    second.take()
    second.release()


def test_answers_are_sent_at_once() -> None:
    """Not after the acknowledgement of their head, for which clients take their time."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()) as _client:
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
