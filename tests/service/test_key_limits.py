"""What one key gets of places, time and disk, on both databases: counted, told, refused, given back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, pairwise
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from service.access.quotas import Quota
from service.errors import ServiceError
from service.metrics import Metrics
from service.runs.clock import today
from service.runs.usage import Usage
from service.store.database import connect
from service.store.jobs import Crowd, JobStore, TooMany, TooMuchKept
from service.store.schema import migrate
from service.store.usage import UsageStore
from tests.service.examples import KERNEL, RUN, changed
from tests.service.guarded import Guarded
from tests.service.postgres import Postgres
from tests.service.problems import check_problem
from tests.service.server import JSONObject, eventually
from tests.service.several import QUICK, Worker

LONG = changed(RUN, "/training/steps", 10**5)
SHORT = changed(RUN, "/training/steps", 30)
PACE = {"NTK_TEST_PACE": "0.01", "NTK_SEGMENT_SECONDS": "0.1", "NTK_WARM_PROCESSES": "1"}
ONE_EACH = {**PACE, "NTK_CONCURRENT_RUNS_PER_KEY": "1", "NTK_CONCURRENT_RUNS": "3"}
NUMBERS = count()


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings by which a server uses a new database."""
    if request.param == "SQLite":
        return {}
    postgres: Postgres = request.getfixturevalue("postgres")
    return {"NTK_DATABASE_URL": postgres.database(f"limits{next(NUMBERS)}"), "NTK_LEASE_SECONDS": "1.5"}


@pytest.fixture
def engine(database: dict[str, str], tmp_path: Path) -> Iterator[sa.Engine]:
    found = connect(database.get("NTK_DATABASE_URL", f"sqlite:///{tmp_path / 'test.sqlite'}"))
    migrate(found)
    yield found
    found.dispose()


def started(directory: Path, **environment: str) -> Guarded:
    server = Guarded(directory, "double", **environment)
    server.start()
    return server


def post(client: httpx.Client, body: JSONObject, **query: str) -> str:
    answer = client.post("/runs", json=body, params=query)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def usage(client: httpx.Client) -> JSONObject:
    answer = client.get("/usage")
    assert answer.status_code == 200, answer.text
    found: JSONObject = answer.json()
    return found


def used(client: httpx.Client, what: str) -> float:
    return float(usage(client)[what]["used"])


def status(server: Guarded, run_id: str) -> str:
    return str(server.as_("operator").get(f"/runs/{run_id}").json()["status"])


@pytest.mark.long
def test_over_its_places_a_key_waits_and_others_go_by(tmp_path: Path, database: dict[str, str]) -> None:
    server = started(tmp_path, **ONE_EACH, **database)
    try:
        ann, ben, operator = map(server.as_, ("ann", "ben", "operator"))
        first = post(ann, LONG)
        eventually(lambda: status(server, first) == "running")
        second, better = post(ann, LONG), post(ann, LONG, priority="high")
        bens, last = post(ben, LONG), post(operator, LONG, priority="low")
        for each in (first, bens, last):  # the last one is taken from the queue after all others
            assert server.process_of(each)
        assert [status(server, each) for each in (second, better)] == ["queued", "queued"]
        assert usage(ann)["concurrent_runs"] == {"used": 1, "limit": 1}
        assert usage(ann)["jobs"]["used"] == 3

        server.kill()
        server.start()
        for each in (first, bens, last):
            assert server.process_of(each, attempt=2)
        assert [status(server, each) for each in (second, better)] == ["queued", "queued"]

        assert ann.post(f"/runs/{first}/cancel").status_code == 200
        eventually(lambda: status(server, better) == "running")
        assert status(server, second) == "queued"
        assert ann.delete(f"/runs/{better}").status_code == 204
        eventually(lambda: status(server, second) == "running")
        assert len(server.processes_of(second)) <= 1
    finally:
        server.close()


def one_after_the_other(client: httpx.Client, ids: list[str]) -> None:
    """All have succeeded, never two of them at a time."""
    eventually(lambda: usage(client)["jobs"]["used"] == 0, 90)
    runs = [client.get(f"/runs/{each}", params={"fields": ""}).json() for each in ids]
    assert {run["status"] for run in runs} == {"succeeded"}
    runs.sort(key=lambda run: str(run["started_at"]))
    assert all(one["ended_at"] <= other["started_at"] for one, other in pairwise(runs))


@pytest.mark.long
def test_limits_that_come_and_go(tmp_path: Path, database: dict[str, str]) -> None:
    """What was queued before there was one is not lost, nor who stands aside when there is none any more."""
    server = started(tmp_path, **{**PACE, "NTK_CONCURRENT_RUNS": "1"}, **database)
    try:
        ann, operator = server.as_("ann"), server.as_("operator")
        ids = [post(ann, LONG) for _ in range(3)]
        assert server.process_of(ids[0])
        server.kill()
        server._environment |= ONE_EACH
        server.start()
        last = post(operator, LONG, priority="low")
        assert server.process_of(last)
        assert server.process_of(ids[0], attempt=2)
        assert [status(server, each) for each in ids] == ["running", "queued", "queued"]
        assert operator.delete(f"/runs/{last}").status_code == 204
        server.kill()
        del server._environment["NTK_CONCURRENT_RUNS_PER_KEY"]
        server.start()
        eventually(lambda: [status(server, each) for each in ids] == ["running"] * 3)
    finally:
        server.close()


@pytest.mark.long
def test_places_are_those_of_all_machines(tmp_path: Path, postgres: Postgres) -> None:
    shared = {**ONE_EACH, **QUICK, "NTK_DATABASE_URL": postgres.database("places")}
    server = Guarded(tmp_path, "double", **shared, NTK_WORK="0")
    workers = [Worker(tmp_path, name, "double", **shared) for name in ("one", "two")]
    try:
        for worker in workers:
            worker.launch()
        server.start()
        for worker in workers:
            worker.ready()
        ann = server.as_("ann")
        ids = [post(ann, SHORT) for _ in range(4)]
        one, other = workers
        eventually(lambda: one.attempts(ids[0]) or other.attempts(ids[0]))
        (one if one.attempts(ids[0]) else other).kill()
        one_after_the_other(ann, ids)
    finally:
        for worker in workers:
            worker.kill()
        server.close()


@pytest.mark.long
def test_compute_seconds_are_counted_told_and_refused(tmp_path: Path) -> None:
    limit = {**PACE, "NTK_COMPUTE_SECONDS_PER_KEY": "1.5", "NTK_CONCURRENT_RUNS": "1"}
    server = started(tmp_path, **limit)
    try:
        ann, ben, operator = map(server.as_, ("ann", "ben", "operator"))
        key = {"Idempotency-Key": "first"}
        run = ann.post("/runs", json=LONG, headers=key).json()["id"]
        eventually(lambda: used(ann, "compute_seconds") >= 1.5)  # it goes on
        for path, body in (("/runs", SHORT), ("/kernel", KERNEL)):
            answer = ann.post(path, json=body)
            problem = check_problem(answer, 429)
            assert problem["used"]["compute_seconds"] >= 1.5
            assert problem["limit"] == {"compute_seconds": 1.5}
            assert problem["again_at"] == usage(ann)["compute_seconds"]["resets_at"]
            assert 1 <= int(answer.headers["retry-after"]) <= 86_400
            assert '"compute";q=1;qu="seconds";w=86400' in answer.headers["ratelimit-policy"]
            assert '"work";q=600;w=60' in answer.headers["ratelimit-policy"]
            assert f'"compute";r=0;t={answer.headers["retry-after"]}' in answer.headers["ratelimit"]
        assert status(server, run) == "running"
        assert ann.post("/runs", json=LONG, headers=key).json()["id"] == run
        assert ann.post("/runs/estimate", json=LONG).status_code == 200
        assert ben.post("/kernel", json=KERNEL).status_code == 200
        eventually(lambda: used(ben, "compute_seconds") > 0)
        assert 'ntk_compute_seconds_total{key="ann"}' in operator.get("/metrics").text

        before = used(ann, "compute_seconds")
        server.kill()
        server.start()
        assert used(ann, "compute_seconds") >= before
        check_problem(ann.post("/runs", json=SHORT), 429)
        assert ann.delete(f"/runs/{run}").status_code == 204
        check_problem(ann.post("/runs", json=SHORT), 429)  # what is deleted was computed, too
        assert ben.post("/runs", json=SHORT).status_code == 202
    finally:
        server.close()


@pytest.mark.long
def test_what_jobs_keep_is_counted_and_given_back(tmp_path: Path) -> None:
    limit = {**PACE, "NTK_TEST_BALLAST": "100000", "NTK_JOB_DISK_BYTES_PER_KEY": "2000000"}
    server = started(tmp_path, **limit, NTK_CONCURRENT_RUNS="1")
    try:
        ann, ben = server.as_("ann"), server.as_("ben")
        record = [{"what": "outputs", "schedule": {"kind": "every", "steps": 1}}]
        large = changed(changed(RUN, "/training/steps", 15_000), "/record", record)
        planned = 8 * 2 * 15_001
        first = post(ann, large)
        assert used(ann, "job_disk_bytes") > planned
        too_large = changed(large, "/training/steps", 150_000)
        for body, path in ((too_large, "/runs"), (KERNEL | {"x1": [[0.1]] * 700}, "/kernel")):
            answer = ben.post(path, json=body, headers={"Prefer": "respond-async"})
            problem = check_problem(answer, 429)
            assert problem["used"] == {"disk_bytes": 0}
            assert problem["estimate"]["disk_bytes"] > problem["limit"]["disk_bytes"] == 2_000_000
            assert '"disk";q=2000000;qu="content-bytes"' in answer.headers["ratelimit-policy"]
            assert int(answer.headers["retry-after"]) >= 1
        others = [post(ann, large) for _ in range(int(2e6 / planned) - 1)]
        check_problem(ann.post("/runs", json=large), 429)
        assert server.process_of(first)
        for each in others:
            assert ann.post(f"/runs/{each}/cancel").status_code == 200
        assert ann.post(f"/runs/{first}/cancel").status_code == 200
        eventually(lambda: used(ann, "job_disk_bytes") < 3 * planned)  # as much as it has written
        run = post(ben, SHORT)
        eventually(lambda: status(server, run) == "succeeded")
        eventually(lambda: used(ben, "job_disk_bytes") == on_disk(tmp_path / "data", run))
        for client, ids in ((ann, [first, *others]), (ben, [run])):
            for each in ids:
                assert client.delete(f"/runs/{each}").status_code == 204
            assert used(client, "job_disk_bytes") == 0
    finally:
        server.close()


def on_disk(data: Path, run_id: str) -> int:
    """Bytes of a run's files and records."""
    files = sum(path.stat().st_size for path in (data / "runs" / run_id).rglob("*") if path.is_file())
    assert files > 100_000  # the ballast
    records = (
        "SELECT length(spec) FROM jobs WHERE id = ?",
        "SELECT sum(length(payload)) FROM events WHERE job_id = ?",
        "SELECT sum(length(payload)) FROM quantities WHERE job_id = ?",
    )
    with closing(sqlite3.connect(data / "ntk.sqlite")) as connection:
        return files + sum(int(connection.execute(each, (run_id,)).fetchone()[0]) for each in records)


def test_usage_without_keys(client: httpx.Client) -> None:
    found = usage(client)
    assert found.pop("key") is None
    assert [name for name, each in found.items() if each["limit"] is not None] == ["dataset_bytes"]


def test_seconds_are_those_of_the_day_and_survive_a_lost_database(engine: sa.Engine) -> None:
    store, metrics = UsageStore(engine), Metrics()
    usage = Usage(store, metrics, 1000.0)
    store.add("2000-01-01", {"ann": 5000.0})
    assert usage.today("ann") == 0
    with usage.counting("ann"), usage.counting(None):
        pass
    usage._store = UsageStore(sa.create_engine("sqlite:////nowhere/at.all"))
    usage.write()
    usage._store = store
    usage.write()
    first = usage.today("ann")
    assert first > 0
    assert usage.today(None) > 0
    with usage.counting("ann"):
        usage.write()  # it has not ended
        assert usage.today("ann") > first
    usage.check("ann")
    store.add(today(), {"ann": 1000.0})
    with pytest.raises(ServiceError):
        usage.check("ann")
    usage.check("ben")
    usage.check(None)
    assert store.seconds("ann", "2000-01-01") == 5000


def test_limits_hold_whoever_races(engine: sa.Engine) -> None:
    store = JobStore(engine)
    told = {"spec": "{}", "facts": "{}", "created_at": "2026"}
    row = {"kind": "run", "owner": "ann", "status": "queued", "disk_bytes": 10, **told}

    def create(n: int) -> bool:
        try:
            store.create({"id": f"job{n}", **row}, crowd=Crowd(["queued"], 8), most_kept=60)
        except (TooMany, TooMuchKept):
            return False
        return True

    def begin(n: int) -> bool:
        try:
            return store.advance(f"job{n}", {}, {"status": "running"}, at="t", crowd=Crowd(["running"], 2))
        except TooMany:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(create, range(16))) == 6
        assert store.kept_by("ann") == 60
        assert sum(threads.map(begin, range(16))) == 2
    assert store.count_of("ann", ["running"]) == 2


def test_how_quotas_are_told() -> None:
    told = Quota("compute", 60, 5, "seconds", 86_400, 120)
    assert told.fields() == {
        "RateLimit-Policy": '"compute";q=60;qu="seconds";w=86400',
        "RateLimit": '"compute";r=5;t=120',
    }
    assert Quota("jobs", 2, 0).fields() == {"RateLimit-Policy": '"jobs";q=2', "RateLimit": '"jobs";r=0'}
