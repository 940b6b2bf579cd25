"""The store, signals and neighbours on PostgreSQL, without servers; what workers ask of their settings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from service.app import Lock
from service.cli import app
from service.compute.nobody import Nobody
from service.compute.pool import NoWorker
from service.runs.clock import now
from service.store.database import TRANSIENT, connect, is_shared, with_patience
from service.store.jobs import JobStore, KeyTaken, NewEvent
from service.store.processes import Process, ProcessStore
from service.store.schema import VERSION, metadata, migrate, processes, schema_version
from service.store.signals import CHANNEL, PostgresSignals
from tests.service.postgres import Postgres
from tests.service.server import Server, eventually
from tests.service.test_jobs import VERSION_1

ROW = {"kind": "run", "status": "running", "spec": "{}", "facts": "{}", "created_at": "2026"}


@pytest.fixture(scope="module")
def engine(postgres: Postgres) -> Iterator[sa.Engine]:
    found = connect(postgres.database("store"))
    migrate(found)
    yield found
    found.dispose()


def test_old_databases_become_what_new_ones_are(postgres: Postgres) -> None:
    old, new = (connect(postgres.database(name)) for name in ("old", "new"))
    with old.begin() as connection:
        for statement in VERSION_1.replace(" WITHOUT ROWID", "").split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    assert migrate(old) == migrate(new) == VERSION
    for table in metadata.tables:
        columns = [{c["name"] for c in sa.inspect(which).get_columns(table)} for which in (old, new)]
        assert columns[0] == columns[1], table
    for which in (old, new):
        JobStore(which).create({"id": "x", **ROW})
        which.dispose()


def test_processes_that_start_together_make_the_tables_once(postgres: Postgres) -> None:
    url = postgres.database("together")
    engines = [connect(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(migrate, engines)) == [VERSION] * 4
    with engines[0].connect() as connection:
        assert list(connection.scalars(sa.select(schema_version.c.version))) == [VERSION]
    for engine in engines:
        engine.dispose()


def test_points_are_appended_once_in_order_whoever_races(engine: sa.Engine) -> None:
    store = JobStore(engine)
    store.create({"id": "race", **ROW})
    won: list[int] = []

    def contend(segment: int) -> None:
        points = [NewEvent("point", n, float(n), values={"loss": str(segment)}) for n in range(5)]
        fence: dict[str, list[Any]] = {"segment": [segment], "status": ["running"]}
        if store.advance("race", fence, {"segment": segment + 1}, points, at="t"):
            won.append(segment)

    with ThreadPoolExecutor(8) as threads:  # each segment is offered four times
        list(threads.map(contend, [segment for segment in range(20) for _ in range(4)]))
    won.sort()  # a thread may be held up between its commit and its note
    assert won == list(range(len(won)))
    assert won
    found = store.events_after("race", -1, 1000)
    assert [event.seq for event in found] == list(range(5 * len(won)))
    assert [json.loads(event.text)["loss"] for event in found] == [s for s in won for _ in range(5)]
    series = store.series("race", "loss", 0, 1, 10_000)
    assert series.values == [s for s in won for _ in range(5)]


def test_only_the_last_turn_may_write(engine: sa.Engine) -> None:
    store = JobStore(engine)
    store.create({"id": "turns", **ROW})
    assert store.take_turn("turns", ["running"]) == 1
    assert store.take_turn("turns", ["running"]) == 2
    assert not store.advance("turns", {"turn": [1]}, {"progress": 0.5}, at="t")
    assert store.advance("turns", {"turn": [2]}, {"status": "succeeded"}, at="t")
    assert store.take_turn("turns", ["running"]) is None


def test_who_stops_in_a_transaction_does_not_keep_others_from_a_job(engine: sa.Engine) -> None:
    store = JobStore(engine)
    store.create({"id": "held", **ROW})
    with engine.connect() as stopped:
        stopped.execute(sa.text("UPDATE jobs SET progress = 0.1 WHERE id = 'held'"))
        assert store.take_turn("held", ["running"]) == 1  # after five seconds
        with pytest.raises(TRANSIENT):
            stopped.execute(sa.text("SELECT 1"))


def test_keys_are_taken_once_whoever_races(engine: sa.Engine) -> None:
    store = JobStore(engine)

    def create(n: int) -> str:
        try:
            store.create({"id": f"key{n}", **ROW}, key=("k", "digest"))
        except KeyTaken as taken:
            return taken.job_id
        return f"key{n}"

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(create, range(40)))) == 1


class Heard:
    """What arrives at one end."""

    def __init__(self, signals: PostgresSignals) -> None:
        self.signals = signals
        self.received: list[tuple[str, str]] = []
        self.looked = threading.Semaphore(0)
        signals.start(lambda topic, job_id: self.received.append((topic, job_id)), self.looked.release)
        self.looked.acquire(timeout=30)


def test_signals_reach_others_only_and_survive_a_lost_connection(engine: sa.Engine) -> None:
    one, two = Heard(PostgresSignals(engine)), Heard(PostgresSignals(engine))
    one.signals.send("changed", "a")
    eventually(lambda: two.received == [("changed", "a")])
    assert one.received == []
    with engine.begin() as connection:
        listening = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE :what"
        connection.execute(sa.text(listening), {"what": f"LISTEN {CHANNEL}%"})
    while two.looked.acquire(blocking=False):
        pass
    two.looked.acquire(timeout=30)  # it is back, and has those who wait look for what was missed

    def heard_again() -> bool:
        one.signals.send("changed", "b")
        return ("changed", "b") in two.received

    eventually(heard_again)
    for end in (one, two):
        end.signals.stop()


def test_who_was_silent_is_looked_after_by_one(engine: sa.Engine) -> None:
    store = ProcessStore(engine)
    store.count_on("p", now())
    store.count_on("p", now())
    assert Process("p", 1, left=False) in store.all()
    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda _: store.claim(Process("p", 1, left=False)), range(8)))
    assert sum(claims) == 1
    store.forget("p", "2000")
    assert [process.id for process in store.all()] == ["p"]
    store.forget("p", "3000")
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(processes)) == 0


def test_lost_connections_are_noticed(engine: sa.Engine, postgres: Postgres) -> None:
    assert is_shared("postgresql://x/y")
    assert not is_shared("sqlite:///x")
    assert with_patience("sqlite:///x") == "sqlite:///x"
    given = with_patience(f"{postgres.url()}?connect_timeout=3")
    assert sa.make_url(given).query["connect_timeout"] == "3"
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        assert driver.info.get_parameters()["tcp_user_timeout"] == "10000"


def test_directory_is_shared_with_a_database_and_never_with_a_lone_server(tmp_path: Path) -> None:
    alone, one, two = Lock(tmp_path), Lock(tmp_path, shared=True), Lock(tmp_path, shared=True)
    one.take()
    two.take()
    with pytest.raises(RuntimeError, match="NTK_DATABASE_URL"):
        alone.take()
    one.release()
    two.release()
    alone.take()
    alone.release()


def test_worker_needs_a_database_to_share(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["worker", "--data-dir", str(tmp_path)], env={"NTK_DATABASE_URL": ""})
    assert answer.exit_code == 1
    assert "postgresql://" in answer.stderr


def test_nobody_computes() -> None:
    with pytest.raises(NoWorker):
        Nobody().submit(print, 1).result()


@pytest.mark.long
def test_time_limit_and_retention(tmp_path: Path) -> None:
    rules = {"NTK_TEST_PACE": "0.01", "NTK_JOB_SECONDS": "0.5", "NTK_WARM_PROCESSES": "1"}
    server = Server(tmp_path, "double", **rules, NTK_KEEP_DAYS="0.00001")
    server.start()
    training = {"kind": "gradient_descent", "learning_rate": 0.01, "steps": 100_000}
    model = {"layers": [{"kind": "dense", "width": 1}]}
    run_id = server.create({"model": model, "data": {"x": [[1.0]], "y": [[1.0]]}, "training": training})
    events = list(server.events(run_id))
    assert events[-1]["error"]["category"] == "too-costly"
    assert "0.5 seconds" in events[-1]["error"]["detail"]
    assert server.show(run_id)["progress"]["crashes"] == 0
    server.stop()
    server.start()  # what has ended long enough ago is removed now, and then every hour
    eventually(lambda: server.client.get(f"/runs/{run_id}").status_code == 404)
    assert not (tmp_path / "data" / "runs" / run_id).exists()
    server.close()
