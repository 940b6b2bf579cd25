"""Workers are killed, stopped, cut off, and their database restarts: nothing is lost, doubled or changed."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

from ntkengine.kernels import KernelSpec, compute_kernel
from ntkengine.spec import from_jsonable
from tests.compare import assert_close
from tests.faults.conftest import PACE, ROUNDS
from tests.faults.ledger import DENSE, LEDGER, Account, spec, uninterrupted
from tests.faults.namespaces import Machine
from tests.faults.test_faults import check_complete
from tests.service.postgres import Postgres
from tests.service.server import JSONObject, alive, descendants, eventually
from tests.service.several import QUICK, Fleet, Replica, Worker

pytestmark = pytest.mark.faults

SHORT = spec(20)


def account(fault: str) -> Account:
    return LEDGER.account(fault, "PostgreSQL")


def test_a_run_is_computed_by_a_worker_and_read_on_another_replica(fleet: Fleet) -> None:
    run_id = fleet.first.create(spec())
    check_complete(list(fleet.second.events(run_id)), spec())
    assert sorted(len(worker.attempts(run_id)) for worker in fleet.workers) == [0, 1]
    assert [descendants(replica.pid) for replica in (fleet.first, fleet.second)] == [[], []]


def test_killed_worker(fleet: Fleet) -> None:
    body = spec(seed=1)
    run_id = fleet.first.create(body)
    worker, other = fleet.at_work(run_id, 60)
    started = descendants(worker.pid)
    worker.kill()
    account("worker killed").injected += 1
    account("worker killed").audit(list(fleet.second.events(run_id)), uninterrupted(body))
    assert len(other.attempts(run_id)) == 1
    assert fleet.first.show(run_id)["progress"]["crashes"] == 0
    assert [pid for pid in started if alive(pid)] == []
    worker.launch()
    worker.ready()


def test_worker_stopped_past_its_lease_and_continued(fleet: Fleet) -> None:
    stopped = account("worker stopped past its lease, continued")
    for seed in range(ROUNDS):
        body = spec(seed=seed)
        run_id = fleet.first.create(body)
        worker, other = fleet.at_work(run_id, 60)
        worker.signal(signal.SIGSTOP)
        eventually(lambda: other.attempts(run_id))  # noqa: B023
        worker.signal(signal.SIGCONT)  # it would now commit what it computed before, and go on
        stopped.injected += 1
        stopped.audit(list(fleet.second.events(run_id)), uninterrupted(body))
        run = fleet.first.show(run_id)
        stopped.expect((run["status"], run["progress"]["crashes"]), ("succeeded", 0))
        eventually(lambda: fleet.at_work(fleet.first.create(SHORT), 1)[0] is worker)  # noqa: B023 (works again)


@pytest.mark.long
def test_worker_stopped_while_it_computes_a_large_kernel(fleet: Fleet) -> None:
    x = np.random.default_rng(0).normal(size=(2500, 5)).astype(np.float32)
    layers = [*[DENSE, {"kind": "relu"}] * 12, DENSE]
    request = {"model": {"layers": layers}, "x1": x.tolist(), "dtype": "float32"}
    made = fleet.first.client.post("/kernel", json=request, headers={"Prefer": "respond-async"})
    path = made.headers["location"]
    kernel_id = path.rpartition("/")[2]
    eventually(lambda: any(worker.attempts(kernel_id) for worker in fleet.workers))
    worker, other = fleet.workers if fleet.workers[0].attempts(kernel_id) else fleet.workers[::-1]
    eventually(lambda: (fleet.first.client.get(path).json()["progress"]["tiles"] or {"done": 0})["done"])
    worker.signal(signal.SIGSTOP)  # not the process that computes: it goes on writing tiles
    eventually(lambda: other.attempts(kernel_id))
    worker.signal(signal.SIGCONT)
    assert list(fleet.second.events_of(path))[-1]["kind"] == "finished"
    answer = fleet.second.client.get(f"{path}/data", headers={"Accept": "application/x-npy"})
    expected = compute_kernel(from_jsonable(KernelSpec, request)).kernels["ntk"]
    assert_close(np.load(io.BytesIO(answer.content)), expected)


def test_worker_that_is_stopped_in_good_order_hands_over(fleet: Fleet) -> None:
    body = spec(seed=3)
    run_id = fleet.first.create(body)
    worker, other = fleet.at_work(run_id, 60)
    assert worker.stop() == 0
    check_complete(list(fleet.second.events(run_id)), body)
    assert len(other.attempts(run_id)) == 1
    assert fleet.first.show(run_id)["progress"]["crashes"] == 0
    worker.launch()
    worker.ready()


def test_cancel_on_a_replica_ends_the_process_on_a_worker(fleet: Fleet) -> None:
    run_id = fleet.first.create(spec(seed=4))
    worker, _ = fleet.at_work(run_id, 30)
    (process,) = worker.attempts(run_id)
    assert fleet.first.client.post(f"/runs/{run_id}/cancel").json()["status"] == "cancelled"
    eventually(lambda: not alive(process), patience=5)
    events = list(fleet.second.events(run_id))
    assert events[-1]["kind"] == "cancelled"
    assert [event["seq"] for event in events] == list(range(len(events)))


def test_delete_on_a_replica(fleet: Fleet) -> None:
    run_id = fleet.first.create(spec(seed=5))
    worker, _ = fleet.at_work(run_id, 30)
    (process,) = worker.attempts(run_id)
    directory = worker.log.parent / "data" / "runs" / run_id
    assert directory.exists()
    assert fleet.first.client.delete(f"/runs/{run_id}").status_code == 204
    eventually(lambda: not alive(process), patience=5)
    assert fleet.second.client.get(f"/runs/{run_id}").status_code == 404
    assert not directory.exists()


def test_killed_replica_leaves_its_jobs_to_the_workers(fleet: Fleet) -> None:
    body = spec(seed=6)
    run_id = fleet.first.create(body)
    fleet.first.kill()
    check_complete(list(fleet.second.events(run_id)), body)
    fleet.first.start()


def test_small_kernels_are_jobs_where_nothing_is_computed(fleet: Fleet) -> None:
    request = {"model": {"layers": [DENSE, {"kind": "relu"}, DENSE]}, "x1": [[1.0, 0.0], [0.6, 0.8]]}
    answer = fleet.first.client.post("/kernel", json=request)
    assert answer.status_code == 202
    job = answer.json()
    assert list(fleet.second.events_of(f"/kernels/{job['id']}"))[-1]["kind"] == "finished"


def test_database_restarted_in_mid_run(fleet: Fleet, postgres: Postgres) -> None:
    body = spec(seed=7)
    run_id = fleet.first.create(body)
    seen: list[JSONObject] = []
    reader = threading.Thread(target=lambda: seen.extend(fleet.second.events(run_id)))
    reader.start()
    worker, _ = fleet.at_work(run_id, 60)
    postgres.stop()
    refused = fleet.first.client.post("/runs", json=spec())
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:ntkengine:problem:unavailable"
    postgres.start()
    reader.join(timeout=60)
    account("database restarted under load").injected += 1
    account("database restarted under load").audit(seen, uninterrupted(body))  # over one connection
    run = fleet.first.show(run_id)
    assert (run["status"], run["progress"]["crashes"]) == ("succeeded", 0)
    assert len(worker.attempts(run_id)) == 2


@pytest.mark.verify
@pytest.mark.parametrize("seed", range(max(10, ROUNDS)))
def test_database_restarted_at_random(fleet: Fleet, postgres: Postgres, chance: Generator, seed: int) -> None:
    """While runs are asked for, too: one that was stored and not answered is computed like the others."""
    restarted = account("database restarted under load")
    bodies = [spec(60, seed=100 * (seed + 1) + n) for n in range(6)]
    with ThreadPoolExecutor(len(bodies)) as threads:
        answers = [threads.submit(fleet.first.client.post, "/runs", json=body) for body in bodies]
        time.sleep(chance.uniform(0, 0.6))
        postgres.stop()
        restarted.injected += 1
        postgres.start()
    told = {answer.result().status_code for answer in answers}
    restarted.expect(told - {202, 503}, set())
    ids = {a.result().json()["id"] for a in answers if a.result().status_code == 202}
    page = fleet.second.client.get("/runs", params={"limit": 30}).json()["runs"]
    stored = {run["id"]: fleet.second.show(run["id"])["spec"] for run in page}
    mine = {run_id: body for run_id, body in stored.items() if (body["seed"] or 0) // 100 == seed + 1}
    restarted.compare([], sorted((run_id,) for run_id in ids - set(mine)))
    for run_id, body in mine.items():
        restarted.audit(list(fleet.second.events(run_id)), uninterrupted(body))


@pytest.mark.verify
@pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces")
def test_worker_cut_off_from_the_database(postgres: Postgres, tmp_path: Path) -> None:
    """Two workers in network namespaces; the cable of one is pulled in mid-run, and put back later."""
    machines = (Machine(1), Machine(2))
    database = f"cut{os.getpid()}"
    environment = {"NTK_DATABASE_URL": postgres.database(database), **PACE, **QUICK}
    workers = [
        Worker(
            tmp_path,
            f"worker{n}",
            "double",
            machine.prefix,
            **{**environment, "NTK_DATABASE_URL": postgres.url(database, machine.host)},
        )
        for n, machine in enumerate(machines)
    ]
    replicas = [Replica(tmp_path, name, **environment) for name in ("first", "second")]
    fleet = Fleet(replicas[0], replicas[1], (workers[0], workers[1]))
    try:
        fleet.start()
        body = spec(1200, seed=8)
        run_id = fleet.first.create(body)
        worker, other = fleet.at_work(run_id, 60)
        machine = machines[workers.index(worker)]
        (process,) = worker.attempts(run_id)
        machine.cut_off()
        eventually(lambda: other.attempts(run_id))
        eventually(lambda: not alive(process))  # it cannot say that it lives, so it computes no more
        machine.connect()
        account("worker cut off from the database").injected += 1
        account("worker cut off from the database").audit(
            list(fleet.second.events(run_id)), uninterrupted(body)
        )
        assert fleet.first.show(run_id)["progress"]["crashes"] == 0
        eventually(lambda: fleet.at_work(fleet.first.create(spec(seed=9)), 1)[0] is worker)
        assert fleet.stop() == [0, 0, 0, 0]
    finally:
        fleet.kill()
        for machine in machines:
            machine.remove()
