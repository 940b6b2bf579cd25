"""Who may come in, what with, and what they find there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from service.access.keys import Key
from service.access.tickets import Tickets
from service.routes.access import PUBLIC
from tests.service.examples import KERNEL, RUN
from tests.service.guarded import Guarded
from tests.service.problems import check_problem
from tests.service.server import JSONObject, Server, alive

KEYLESS = {name: value for name, value in os.environ.items() if not name.startswith("NTK_")}
UNKNOWN = "A" * 22


def ntk(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", *arguments],
        env=KEYLESS | environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def operations(guarded: Guarded) -> list[tuple[str, str]]:
    """Every documented method and path."""
    document = guarded.client.get("/openapi.json").json()
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]


def address(path: str, job_id: str = UNKNOWN) -> str:
    parts = {"{job_id}": job_id, "{digest}": "0" * 64, "{key}": "zarr.json", "{name}": "nothing"}
    for name, value in parts.items():
        path = path.replace(name, value)
    assert "{" not in path
    return path


@pytest.fixture
def run(guarded: Guarded) -> Iterator[str]:
    """A run of Ann's."""
    answer = guarded.as_("ann").post("/runs", json=RUN)
    yield answer.json()["id"]
    guarded.as_("operator").delete(f"/runs/{answer.json()['id']}")


@pytest.fixture
def kernel(guarded: Guarded) -> Iterator[str]:
    """A large kernel of Ann's."""
    answer = guarded.as_("ann").post("/kernel", json=KERNEL, headers={"Prefer": "respond-async"})
    yield answer.json()["id"]
    guarded.as_("operator").delete(f"/kernels/{answer.json()['id']}")


def test_nothing_but_probes_and_pages_without_a_key(
    guarded: Guarded, operations: list[tuple[str, str]]
) -> None:
    assert len(operations) > 20
    for method, path in operations:
        answer = guarded.client.request(method, address(path))
        if path in PUBLIC:
            assert answer.status_code != 401, path
        else:
            check_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    for page in ("/", "/docs", "/openapi.json", "/static/swagger/LICENSE"):
        assert guarded.client.get(page).status_code != 401, page
    check_problem(guarded.client.get("/no-such-address"), 401)


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer", "bearer x", "Basic YW5uOmFubg==", "Bearer é"])
def test_wrong_keys(guarded: Guarded, header: str) -> None:
    check_problem(guarded.client.get("/runs", headers={b"Authorization": header.encode()}), 401)


def test_a_key_is_no_query(guarded: Guarded) -> None:
    for name in ("key", "api_key", "access_token", "ticket"):
        check_problem(guarded.client.get("/runs", params={name: guarded.keys["ann"]}), 401)


def test_scopes(guarded: Guarded, run: str) -> None:
    reader, ann, operator = map(guarded.as_, ("reader", "ann", "operator"))
    assert reader.get("/runs").status_code == 200
    for method, path in (("POST", "/kernel"), ("POST", "/runs"), ("DELETE", f"/runs/{run}")):
        answer = reader.request(method, path, json=None if method == "DELETE" else RUN)
        check_problem(answer, 403)
        assert 'scope="compute"' in answer.headers["www-authenticate"]
    check_problem(ann.get("/metrics"), 403)
    assert operator.get("/metrics").status_code == 200
    assert operator.post("/kernel", json=KERNEL).status_code == 200


def test_jobs_of_others_are_not_there(
    guarded: Guarded, operations: list[tuple[str, str]], run: str, kernel: str
) -> None:
    """By no documented address, whatever it does; their owner still has them afterwards."""
    jobs = {"/runs": run, "/kernels": kernel}
    tried = 0
    for method, path in operations:
        for prefix, job_id in jobs.items():
            if path.startswith(f"{prefix}/{{job_id}}"):
                theirs = guarded.as_("ben").request(method, address(path, job_id))
                nobodys = guarded.as_("ben").request(method, address(path))
                check_problem(theirs, 404)
                assert theirs.json()["detail"] == nobodys.json()["detail"]
                tried += 1
    assert tried > 8
    for prefix, job_id in jobs.items():
        assert guarded.as_("ann").get(f"{prefix}/{job_id}").status_code == 200
        assert guarded.as_("operator").get(f"{prefix}/{job_id}").status_code == 200


def test_lists_show_ones_own(guarded: Guarded, run: str, kernel: str) -> None:
    for path, noun, job_id in (("/runs", "runs", run), ("/kernels", "kernels", kernel)):
        seen = {
            name: [job["id"] for job in guarded.as_(name).get(path).json()[noun]]
            for name in ("ann", "ben", "operator")
        }
        assert job_id in seen["ann"]
        assert job_id in seen["operator"]
        assert seen["ben"] == []


def test_equal_requests_of_two_keys_are_two_jobs(guarded: Guarded, kernel: str) -> None:
    headers = {"Prefer": "respond-async", "Idempotency-Key": "the-same"}
    for path, body in (("/kernel", KERNEL), ("/runs", RUN)):
        ids = [
            guarded.as_(name).post(path, json=body, headers=headers).json()["id"]
            for name in ("ann", "ben", "ann")
        ]
        assert ids[0] == ids[2]
        assert ids[0] != ids[1]
        noun = "/kernels" if path == "/kernel" else path
        assert guarded.as_("ben").delete(f"{noun}/{ids[1]}").status_code == 204
    assert guarded.as_("ann").get(f"/kernels/{kernel}").status_code == 200


def ticket_for(guarded: Guarded, name: str, path: str) -> str:
    answer = guarded.as_(name).post("/tickets", json={"path": path})
    assert answer.status_code == 201, answer.text
    body: JSONObject = answer.json()
    assert body["href"] == f"{path}?ticket={quote(body['ticket'])}"
    return str(body["ticket"])


def test_a_ticket_opens_its_stream(guarded: Guarded, run: str) -> None:
    ticket = ticket_for(guarded, "ann", f"/runs/{run}/events")
    answer = guarded.client.get(f"/runs/{run}/events", params={"ticket": ticket})
    assert answer.status_code == 200
    assert "event: finished" in answer.text


def test_a_ticket_opens_nothing_else(guarded: Guarded, run: str, kernel: str) -> None:
    ticket = ticket_for(guarded, "ann", f"/runs/{run}/events")
    for method, path in (
        ("GET", "/runs"),
        ("GET", f"/runs/{run}"),
        ("GET", f"/kernels/{kernel}/events"),
        ("GET", f"/runs/{UNKNOWN}/events"),
        ("DELETE", f"/runs/{run}"),
        ("POST", f"/runs/{run}/events"),
        ("POST", f"/runs/{run}/cancel"),
    ):
        check_problem(guarded.client.request(method, path, params={"ticket": ticket}), 401)
    for path in (f"/runs/{run}", f"/runs/{run}/events?x=", "//evil.example/events", "/metrics"):
        check_problem(guarded.as_("ann").post("/tickets", json={"path": path}), 422)


def test_tickets_see_what_their_key_does(guarded: Guarded, run: str) -> None:
    stream = f"/runs/{run}/events"
    bens = ticket_for(guarded, "ben", stream)
    check_problem(guarded.client.get(stream, params={"ticket": bens}), 404)
    assert guarded.client.get(stream, params={"ticket": ticket_for(guarded, "operator", stream)}).is_success


def test_tickets_that_are_none(guarded: Guarded, run: str) -> None:
    stream = f"/runs/{run}/events"
    secret = guarded.log.parent / "data" / "tickets.secret"
    good = ticket_for(guarded, "ann", stream)
    assert secret.stat().st_mode & 0o077 == 0
    claims, signature = good.split(".")
    old = Tickets(secret, lambda: time.time() - 61).issue("ann", stream)
    nearly_old = Tickets(secret, lambda: time.time() - 30).issue("ann", stream)
    withdrawn = Tickets(secret).issue("somebody", stream)
    forged = Tickets(secret.with_name("other.secret")).issue("ann", stream)
    unsigned = f"{claims}."
    for wrong in (
        old,
        withdrawn,
        forged,
        unsigned,
        f"{claims}.{signature[::-1]}",
        "",
        ".",
        "a.b.c",
        "W10=.0",
    ):
        check_problem(guarded.client.get(stream, params={"ticket": wrong}), 401)
    assert guarded.client.get(stream, params={"ticket": nearly_old}).is_success


def test_no_start_where_strangers_come(tmp_path: Path) -> None:
    arguments = ("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path))  # noqa: S104
    refused = ntk(*arguments)
    assert refused.returncode == 1
    assert "ntk keys new" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert list(tmp_path.iterdir()) == []
    unreadable = ntk(*arguments, NTK_API_KEYS="ntk_this-is-the-key-itself")
    assert unreadable.returncode == 1
    assert "this-is-the-key-itself" not in unreadable.stderr


def test_a_key_from_the_command_line(tmp_path: Path) -> None:
    """What `ntk keys new` prints is a key and its entry; only the holder's copy opens the service."""
    made = ntk("keys", "new", "carl", "--scope", "read")
    secret, entry = made.stdout.split()
    assert secret not in entry
    assert Key.parse(entry).principal.name == "carl"
    assert ntk("keys", "new", "no colons:").returncode == 1
    server = Server(tmp_path, "double", NTK_API_KEYS=entry, NTK_HOST="0.0.0.0", NTK_WARM_PROCESSES="1")  # noqa: S104
    server.start()
    try:
        said = {
            key: server.client.get("/runs", headers={"Authorization": f"Bearer {key}"}).status_code
            for key in (secret, entry, entry.split(":")[1])
        }
        assert list(said.values()) == [200, 401, 401]
        assert server.stop() == 0
        assert not alive(server.pid)
        assert secret not in server.log.read_text()
    finally:
        server.close()


def test_the_log_names_holders_and_tells_no_secrets(guarded: Guarded, run: str) -> None:
    ticket = ticket_for(guarded, "ann", f"/runs/{run}/events")
    guarded.client.get(f"/runs/{run}/events", params={"ticket": ticket})
    guarded.client.get("/runs", headers={"Authorization": "Bearer a-wrong-secret"})
    told = guarded.log.read_text()
    assert '"key": "ann"' in told
    assert not [secret for secret in (*guarded.keys.values(), ticket, "a-wrong-secret") if secret in told]
