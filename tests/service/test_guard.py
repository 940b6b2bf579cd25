"""What pages of other sites can make a browser send here, and what browsers are told of every answer."""

from __future__ import annotations

import socket

import httpx
import pytest

from service.web.headers import STRICT
from tests.service.examples import KERNEL, RUN
from tests.service.guarded import ORIGIN, Guarded
from tests.service.problems import check_problem
from tests.service.server import Server

ELSEWHERE = "https://elsewhere.example"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil", "[", "", "a b"]
)
def test_other_names_of_this_machine(client: httpx.Client, host: str) -> None:
    """DNS rebinding: an attacker's name that leads here."""
    for path in ("/healthz", "/", "/runs", "/no-such-page"):
        check_problem(client.get(path, headers={"Host": host}), 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:80"])
def test_its_own_names(client: httpx.Client, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ELSEWHERE},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": ELSEWHERE},
    ],
)
def test_pages_of_other_sites_change_nothing(double: Server, headers: dict[str, str]) -> None:
    client, run_id = double.client, double.create(RUN)
    for method, path, body in (
        ("POST", "/runs", RUN),
        ("POST", "/kernel", KERNEL),
        ("POST", f"/runs/{run_id}/cancel", None),
        ("DELETE", f"/runs/{run_id}", None),
    ):
        problem = check_problem(client.request(method, path, json=body, headers=headers), 403)
        assert problem["type"] == "urn:ntkengine:problem:cross-site"
    read = client.get(f"/runs/{run_id}", headers=headers)
    assert read.status_code == 200
    assert "access-control-allow-origin" not in read.headers  # so the page does not get to see it


def test_its_own_pages(client: httpx.Client) -> None:
    host = client.base_url.netloc.decode()
    for headers in (
        {"Origin": f"http://{host}"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        assert client.post("/kernel", json=KERNEL, headers=headers).status_code == 200


def test_a_page_that_was_allowed(guarded: Guarded) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization, content-type, idempotency-key"}  # fmt: skip
    preflight = guarded.client.options("/runs", headers=asked)  # browsers send no key with it
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    sent = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    answer = guarded.as_("ann").post("/kernel", json=KERNEL, headers=sent)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    refused = guarded.client.post("/kernel", json=KERNEL, headers=sent)
    check_problem(refused, 401)
    assert refused.headers["access-control-allow-origin"] == ORIGIN  # so that the page can tell why


def test_a_page_that_was_not_allowed(guarded: Guarded) -> None:
    asked = {"Origin": ELSEWHERE, "Access-Control-Request-Method": "POST"}
    preflight = guarded.client.options("/runs", headers=asked)
    assert "access-control-allow-origin" not in preflight.headers
    answer = guarded.as_("ann").post("/kernel", json=KERNEL, headers={"Origin": ELSEWHERE})
    check_problem(answer, 403)
    assert "access-control-allow-origin" not in answer.headers


def test_every_kind_of_answer_is_strict(double: Server, guarded: Guarded) -> None:
    client, run_id = double.client, double.create(RUN)
    list(double.events(run_id))
    wrong_host, unread = {"Host": "evil.example"}, {"Content-Type": "text/plain"}
    answers = {
        200: [client.get("/healthz"), client.get("/runs"), client.get(f"/runs/{run_id}/events")],
        202: [client.post("/runs", json=RUN)],
        204: [client.delete(f"/runs/{double.create(RUN)}")],
        400: [client.post("/kernel", content=b"{", headers={"Content-Type": "application/json"})],
        401: [guarded.client.get("/runs")],
        403: [guarded.as_("reader").post("/runs", json=RUN)],
        404: [client.get("/nothing"), client.get("/runs/nothing"), client.get("/static/nothing.js")],
        405: [client.delete("/kernel")],
        406: [client.post("/kernel", json=KERNEL, headers={"Accept": "text/html"})],
        415: [client.post("/kernel", content=b"{}", headers=unread)],
        421: [client.get("/", headers=wrong_host)],
        422: [client.post("/kernel", json={})],
    }
    pages = [client.get("/"), client.get("/docs"), client.get("/openapi.json"), client.get("/static/docs.js")]
    for status, several in answers.items():
        for answer in several:
            assert answer.status_code == status, answer.text
            assert {name: answer.headers.get(name) for name in STRICT} == STRICT
    for answer in [*pages, *(each for several in answers.values() for each in several)]:
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert {name for name in STRICT if name.lower() not in answer.headers} == set()
        assert "server" not in answer.headers
        assert answer.headers["x-request-id"]
        assert answer.headers["cache-control"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /../../etc/passwd HTTP/1.1",
        b"GET /static/../../../../etc/passwd HTTP/1.1",
        b"GET /static/..%2f..%2f..%2f..%2fetc/passwd HTTP/1.1",
        b"GET /static/%2e%2e/%2e%2e/settings.py HTTP/1.1",
        b"GET /static//etc/passwd HTTP/1.1",
        b"GET /static/index.html%00.png HTTP/1.1",
        b"GET /kernels/..%2f..%2fntk.sqlite/zarr/zarr.json HTTP/1.1",
        b"GET /runs/../healthz/../../ntk.sqlite HTTP/1.1",
        b"GET /experiments/..%5c..%5csecret HTTP/1.1",
        b"GET /runs/%ff%fe HTTP/1.1",
        b"GET /runs/%00 HTTP/1.1",
        b"GET /runs?cursor=%00 HTTP/1.1",
        b"GET /runs?experiment=%00..%2f HTTP/1.1",
        b"GET http://evil.example/runs/x HTTP/1.1",
    ],
)
def test_addresses_that_lead_nowhere(double: Server, head: bytes) -> None:
    """Sent as they are, for clients tidy them up."""
    with socket.create_connection(("127.0.0.1", double.port), timeout=10) as connection:
        connection.sendall(head + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    status = int(answer.split(b" ", 2)[1])
    assert status == 200 if b"experiment=" in head else 400 <= status < 500, answer
    assert b"root:" not in answer
    assert b"SQLite" not in answer
    assert b"Traceback" not in answer
