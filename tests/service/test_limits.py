"""What one key gets, and what one request or process may take."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.access.rates import Rates
from tests.service.conftest import serve
from tests.service.examples import KERNEL, RUN, changed
from tests.service.guarded import Guarded
from tests.service.problems import check_problem
from tests.service.server import JSONObject, Server, eventually

QUOTA = 30
JOBS = 2
BODY = 100_000


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server that allows little; its runs take long."""
    limits = {
        "NTK_REQUESTS_PER_MINUTE": str(QUOTA),
        "NTK_JOBS_PER_KEY": str(JOBS),
        "NTK_MAX_BODY_BYTES": str(BODY),
        "NTK_TEST_PACE": "1",
        "NTK_WARM_PROCESSES": "1",
    }
    yield from serve(Guarded(tmp_path_factory.mktemp("limited"), "double", **limits))


def test_unfinished_jobs_of_a_key(limited: Guarded) -> None:
    ann, ben, operator = map(limited.as_, ("ann", "ben", "operator"))
    first = ann.post("/runs", json=RUN, headers={"Idempotency-Key": "first"}).json()["id"]
    assert ann.post("/runs", json=RUN).status_code == 202
    refused = ann.post("/runs", json=RUN)
    check_problem(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    again = ann.post("/runs", json=RUN, headers={"Idempotency-Key": "first"})
    assert (again.status_code, again.json()["id"]) == (202, first)
    assert ben.post("/runs", json=RUN).status_code == 202
    assert ann.post(f"/runs/{first}/cancel").status_code == 200
    assert ann.post("/runs", json=RUN).status_code == 202
    for run in operator.get("/runs").json()["runs"]:
        assert operator.delete(f"/runs/{run['id']}").status_code == 204


def test_requests_that_ask_for_work(limited: Guarded) -> None:
    """So many at once, reading not among them; one key's do not count for another."""
    reader, operator = limited.as_("reader"), limited.as_("operator")
    left = []
    while (answer := operator.post("/kernel/estimate", json=KERNEL)).is_success:
        left.append(int(answer.headers["ratelimit"].split(";")[1].removeprefix("r=")))
        assert answer.headers["ratelimit-policy"] == f'"work";q={QUOTA};w=60'
        assert len(left) <= 10 * QUOTA
    check_problem(answer, 429)
    assert answer.headers["ratelimit"].startswith('"work";r=0;t=')
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert left[-1] == 0
    assert left == sorted(left, reverse=True)  # it refills more slowly than this asks
    for _ in range(2 * QUOTA):
        assert reader.get("/version").status_code == 200
    assert operator.get("/runs").status_code == 200
    assert limited.as_("ben").post("/kernel/estimate", json=KERNEL).status_code == 200
    assert limited.client.get("/healthz").status_code == 200


def test_permits_come_back_evenly() -> None:
    now = 0.0
    rates = Rates(60, lambda: now)
    assert [rates.take("a").granted for _ in range(61)] == [True] * 60 + [False]
    refused = rates.take("a")
    assert (refused.left, refused.next_in, refused.refilled_in) == (0, 1, 60)
    assert rates.take("b").granted
    now = 2.5
    assert [rates.take("a").granted for _ in range(3)] == [True, True, False]
    now = 1000.0
    assert rates.take("a").left == 59


@pytest.mark.parametrize("declared", [True, False])
def test_bodies_over_the_limit(limited: Guarded, declared: bool) -> None:
    ben = limited.as_("ben")
    content = b'{"model": "' + b"x" * BODY + b'"}'
    pieces = content if declared else (content[i : i + 4096] for i in range(0, len(content), 4096))
    check_problem(ben.post("/runs", content=pieces, headers={"Content-Type": "application/json"}), 413)


def test_forms_over_the_limit(limited: Guarded) -> None:
    form = {"request": ("request.json", b"{}"), "x1": ("x1.npy", b"\x93NUMPY" + bytes(BODY))}
    check_problem(limited.as_("ben").post("/kernel", files=form), 413)
    many: list[tuple[str, tuple[str, bytes]]] = [("x1", ("x1.npy", b""))] * 2000
    refused = limited.as_("ben").post("/kernel", files=many)
    assert refused.status_code in {400, 413}
    check_problem(refused, refused.status_code)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine whose processes get little memory, though the service would plan with more."""
    settings = {
        "NTK_JOB_BYTES": str(700 * 2**20),
        "NTK_MAX_BYTES": str(100 * 2**30),
        "NTK_WARM_PROCESSES": "1",
        "NTK_CONCURRENT_RUNS": "1",
    }
    yield from serve(Server(tmp_path_factory.mktemp("narrow"), "engine", **settings))


WIDE: JSONObject = {
    "layers": [
        {"kind": "dense", "width": 9000},
        {"kind": "relu"},
        {"kind": "dense", "width": 9000},
        {"kind": "relu"},
        {"kind": "dense", "width": 1},
    ]
}


def test_a_request_without_memory_fails_alone(narrow: Server) -> None:
    fatal = changed(changed(KERNEL, "/model", WIDE), "/of", {"kind": "empirical", "seed": 0})
    small = changed(KERNEL, "/of", {"kind": "empirical", "seed": 0})
    before = narrow.client.post("/kernel", json=small).json()["kernels"]
    problem = check_problem(narrow.client.post("/kernel", json=fatal), 422)
    assert problem["type"] == "urn:ntkengine:problem:too-costly"
    assert "memory" in problem["detail"]
    assert narrow.client.post("/kernel", json=small).json()["kernels"] == before


def test_a_job_without_memory_fails_alone(narrow: Server) -> None:
    fatal = narrow.create(changed(changed(RUN, "/model", WIDE), "/training/steps", 2))
    other = narrow.create(RUN)
    list(narrow.events(fatal))
    list(narrow.events(other))
    failed = narrow.show(fatal)
    assert failed["status"] == "failed", failed
    assert failed["error"]["category"] == "too-costly"
    assert "memory" in failed["error"]["detail"]
    assert narrow.show(other)["status"] == "succeeded"


def test_which_jobs_begin_first(limited: Guarded) -> None:
    """Higher priority, then keys that have fewer jobs; one job runs at a time here, a second each step."""
    ann, ben, operator = map(limited.as_, ("ann", "ben", "operator"))
    body = changed(RUN, "/training/steps", 1)
    ids = [ann.post("/runs", json=changed(RUN, "/training/steps", 4)).json()["id"]]
    eventually(lambda: operator.get(f"/runs/{ids[0]}").json()["started_at"])  # the others wait for its end
    asked = [(ann, "normal"), (ben, "normal"), (operator, "high")]
    ids += [who.post("/runs", json=body, params={"priority": what}).json()["id"] for who, what in asked]
    eventually(lambda: all(operator.get(f"/runs/{job}").json()["ended_at"] for job in ids), 60)
    runs = [operator.get(f"/runs/{job}").json() for job in ids]
    order = sorted(range(4), key=lambda place: runs[place]["started_at"])
    assert order == [0, 3, 2, 1]
    for job in ids:
        operator.delete(f"/runs/{job}")
