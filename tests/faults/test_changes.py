"""The world changes under a running service: its clock, its version, and where it is."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

from service.store.backup import backup, restore
from service.store.schema import VERSION
from tests.faults.conftest import PACE, ROUNDS, Database, running
from tests.faults.ledger import Account, spec, uninterrupted
from tests.service.server import JSONObject, Server, eventually
from tests.service.several import Worker

pytestmark = pytest.mark.faults

DAY = 24 * 3600
JUMPS = (DAY, -DAY, 3650 * DAY, 0)
DATABASE = "ntk.sqlite"
SHIM = Path(__file__).with_name("jumping_clock.c")


class Clock:
    """A time of day that a test sets for the processes that are started with `settings`."""

    def __init__(self, directory: Path) -> None:
        self._file, library = directory / "clock", directory / "clock.so"
        self.jump(0)
        command = ["cc", "-shared", "-fPIC", "-o", str(library), str(SHIM)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        self.settings = {"LD_PRELOAD": str(library), "NTK_TEST_CLOCK": str(self._file)}

    def jump(self, seconds: int) -> None:
        """Be so far ahead of the true time."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:  # in place: it is mapped
            file.write(struct.pack("q", seconds))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    return Clock(tmp_path)


@pytest.fixture
def dated(tmp_path: Path, database: Database, clock: Clock) -> Iterator[Server]:
    """A server by that clock."""
    settings = {"NTK_WARM_PROCESSES": "1", "NTK_JOB_SECONDS": "600", **clock.settings}
    with running(Server(tmp_path, "double", **PACE, **settings, **database.settings)) as server:
        yield server


def test_clock_jumps(dated: Server, database: Database, clock: Clock, chance: Generator) -> None:
    """Forward by a day, back by two, ten years forward: in mid-run, and before its process is lost."""
    account = database.account("clock jumps in mid-run, then its process killed")
    for number in range(max(2, ROUNDS)):
        body = spec(seed=number)
        run_id = dated.create(body)
        dated.reach(run_id, int(chance.integers(20, 150)))
        jump = JUMPS[number % len(JUMPS)]
        clock.jump(jump)
        account.injected += 1
        os.kill(dated.process_of(run_id), signal.SIGKILL)
        account.audit(list(dated.events(run_id)), uninterrupted(body))
        ended = datetime.fromisoformat(dated.show(run_id, fields="")["ended_at"])
        error = ended - datetime.now(UTC) - timedelta(seconds=jump)
        assert abs(error) < timedelta(minutes=5)  # or this test would show nothing


def test_upgrade_in_mid_run(mortal: Server, tmp_path: Path, database: Database, chance: Generator) -> None:
    """A newer program with newer tables goes on with the run; the older one then says what is wrong."""
    account = database.account("upgrade in mid-run")
    body = spec()
    run_id = mortal.create(body)
    mortal.reach(run_id, int(chance.integers(20, 150)))
    before = mortal.client.get("/version").json()
    mortal.kill()
    account.injected += 1
    with running(Server(tmp_path, "double", **PACE, **database.settings, NTK_TEST_UPGRADE="1")) as newer:
        account.audit(list(newer.events(run_id)), uninterrupted(body))
        after = newer.client.get("/version").json()
    account.expect(before["schema_version"], VERSION)
    account.expect((after["schema_version"], after["version"] != before["version"]), (VERSION + 1, True))
    with pytest.raises(AssertionError, match="upgrade it"):
        mortal.start()


@pytest.mark.parametrize("database", [pytest.param("PostgreSQL", marks=pytest.mark.verify)], indirect=True)
def test_upgrade_of_one_after_the_other(
    mortal: Server, tmp_path: Path, database: Database, chance: Generator
) -> None:
    """The tables change under a server that runs; what it leaves, a newer worker takes over."""
    account = database.account("upgrade of one process after the other")
    for seed in range(2):
        body = spec(seed=seed)
        run_id = mortal.create(body)
        mortal.reach(run_id, int(chance.integers(20, 150)))
        worker = Worker(tmp_path, f"newer{seed}", "double", **PACE, **database.settings, NTK_TEST_UPGRADE="1")
        worker.launch()
        worker.ready()
        account.injected += 1
        account.audit(list(mortal.events(run_id)), uninterrupted(body))
        assert worker.stop() == 0


@pytest.mark.verify
def test_backup_under_load(tmp_path: Path, chance: Generator) -> None:
    """Each copy that was taken while runs and tiles were written goes on, and comes to the same end."""
    account = Database("SQLite").account("backup under load, restored elsewhere")
    settings = {**PACE, "NTK_MAX_POINTS": "300", "NTK_WARM_PROCESSES": "1", "NTK_CONCURRENT_RUNS": "3"}
    (tmp_path / "old").mkdir()
    data = tmp_path / "old" / "data"
    with running(Server(tmp_path / "old", "double", **settings)) as old:
        for number in range(ROUNDS):
            bodies = {old.create(body): body for body in (spec(600, seed=2 * number + n) for n in range(2))}
            kernel = post_kernel(old, number)
            eventually(lambda: tiles_done(old, kernel))  # noqa: B023
            time.sleep(chance.uniform(0, 1))
            copy, elsewhere = (tmp_path / f"{what}{number}" for what in ("copy", "new"))
            backup(data, data / DATABASE, copy)
            account.injected += 1
            whole = check_ends(account, old, bodies, kernel)  # it writes on, beside the copy
            elsewhere.mkdir()
            restore(copy, elsewhere / "data", elsewhere / "data" / DATABASE)
            with running(Server(elsewhere, "double", **settings)) as new:
                account.compare([(check_ends(account, new, bodies, kernel),)], [(whole,)])


def tiles_done(server: Server, kernel: str) -> int:
    return int((server.client.get(kernel).json()["progress"]["tiles"] or {"done": 0})["done"])


def check_ends(account: Account, server: Server, bodies: dict[str, JSONObject], kernel: str) -> bytes:
    """Follow the runs and the kernel to their ends; the kernel's entries."""
    for run_id, body in bodies.items():
        account.audit(list(server.events(run_id)), uninterrupted(body))
    account.expect(list(server.events_of(kernel))[-1]["kind"], "finished")
    answer = server.client.get(f"{kernel}/data", headers={"Accept": "application/x-npy"})
    assert answer.is_success, answer.text
    return answer.content


def post_kernel(server: Server, seed: int) -> str:
    """A kernel of some tiles, of which the first are soon there."""
    x = np.random.default_rng(seed).normal(size=(2000, 5)).astype(np.float32)
    layers = [*[{"kind": "dense", "b_std": 0.3}, {"kind": "relu"}] * 8, {"kind": "dense", "width": 1}]
    body: JSONObject = {"model": {"layers": layers}, "x1": x.tolist(), "dtype": "float32"}
    return str(server.client.post("/kernel", json=body).headers["location"])
