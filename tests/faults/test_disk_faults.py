"""Disks that are full or change what they hold: jobs wait for room, and go on from what is intact."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

from tests.faults.conftest import PACE, ROUNDS, Database, running
from tests.faults.ledger import spec, uninterrupted
from tests.faults.small_disk import SmallDisk, mounted
from tests.service.server import Server, eventually

pytestmark = pytest.mark.faults

MEGABYTES = 200  # 100 are kept free
Damage = Callable[[Path, Generator], None]


def truncated(file: Path, chance: Generator) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: chance.integers(len(content))])


def flipped(file: Path, chance: Generator) -> None:
    content = np.frombuffer(file.read_bytes(), dtype=np.uint8).copy()
    content[chance.integers(len(content))] ^= 1 << chance.integers(8)
    file.write_bytes(content.tobytes())


def gone(file: Path, _chance: Generator) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [truncated, flipped, pytest.param(gone, marks=pytest.mark.verify)])
def test_newest_checkpoint(mortal: Server, database: Database, chance: Generator, damage: Damage) -> None:
    """The one before it is used, or, where all are damaged, none."""
    account = database.account(f"newest checkpoint {damage.__name__}")
    everything = database.account(f"all checkpoints {damage.__name__}")
    for seed in range(ROUNDS):
        body = spec(seed=seed)
        run_id = mortal.create(body)
        mortal.reach(run_id, int(chance.integers(60, 200)))
        mortal.kill()
        kept = list((mortal.log.parent / "data" / "runs" / run_id / "checkpoints").glob("[!.]*.npz"))
        newest_first = sorted(kept, key=lambda path: path.stat().st_mtime, reverse=True)
        for file in newest_first[: None if seed % 2 else 1]:
            damage(file, chance)
        (everything if seed % 2 else account).injected += 1
        mortal.start()
        account.audit(list(mortal.events(run_id)), uninterrupted(body))
        account.expect(mortal.show(run_id, fields="")["progress"]["crashes"], 0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk with room for what is kept free, and little more."""
    try:
        with mounted(tmp_path / "small", MEGABYTES) as found:
            yield found
    except PermissionError as error:
        pytest.skip(f"no file system can be mounted: {error}")


def served(tmp_path: Path, **settings: str) -> AbstractContextManager[Server]:
    fixed = {"NTK_WARM_PROCESSES": "1", "NTK_TEST_BALLAST": "1000000", "NTK_MAX_POINTS": "300"}
    return running(Server(tmp_path, "double", **PACE, **fixed, **settings))


def fill_until(disk: SmallDisk, server: Server, words: str) -> None:
    """Take all room, and what the service gives back, until its log says so once more than it does now."""
    before = server.log.read_text().count(words)

    def said() -> bool:
        disk.fill()
        return server.log.read_text().count(words) > before

    eventually(said, patience=60)


@pytest.fixture
def crammed(tmp_path: Path, disk: SmallDisk, database: Database) -> Iterator[Server]:
    """A server whose files are on the small disk, and its database elsewhere."""
    elsewhere = {"NTK_DATABASE_URL": f"sqlite:///{tmp_path / 'large.sqlite'}", **database.settings}
    with served(tmp_path, **elsewhere, NTK_DATA_DIR=str(disk.root / "data")) as server:
        yield server


def test_no_room_for_checkpoints(
    crammed: Server, disk: SmallDisk, database: Database, chance: Generator
) -> None:
    account = database.account("disk full while checkpoints are written")
    for seed in range(ROUNDS):
        body = spec(1000, seed=seed)
        run_id = crammed.create(body)
        crammed.reach(run_id, int(chance.integers(1, 100)))
        fill_until(disk, crammed, "waits for room")
        account.injected += 1
        account.expect(crammed.show(run_id, fields="")["status"], "running")
        account.expect(crammed.client.get("/readyz").json()["checks"]["disk"], "missing")
        disk.free()
        account.audit(list(crammed.events(run_id)), uninterrupted(body))
        account.expect(crammed.show(run_id, fields="")["progress"]["crashes"], 0)


@pytest.mark.verify
def test_no_room_for_tiles(crammed: Server, disk: SmallDisk, database: Database, chance: Generator) -> None:
    account = database.account("disk full while tiles are written")
    x = np.random.default_rng(0).normal(size=(2000, 5)).astype(np.float32)
    layers = [*[{"kind": "dense", "b_std": 0.3}, {"kind": "relu"}] * 80, {"kind": "dense", "width": 1}]
    body = {"model": {"layers": layers}, "x1": x.tolist(), "dtype": "float32"}
    digests = []
    for disturbed in [True] * ROUNDS + [False]:
        path = crammed.client.post("/kernel", json=body).headers["location"]
        if disturbed:
            eventually(lambda: tiles_done(crammed, path))  # noqa: B023
            fill_until(disk, crammed, "waits for room")
            account.injected += 1
            time.sleep(chance.uniform(0, 3))
            disk.free()
        account.expect(list(crammed.events_of(path))[-1]["kind"], "finished")
        digests.append((crammed.client.get(path).json()["result"]["sha256"],))
        assert crammed.client.delete(path).status_code == 204
    account.compare(digests, digests[-1:] * len(digests))


def tiles_done(server: Server, kernel: str) -> int:
    return int((server.client.get(kernel).json()["progress"]["tiles"] or {"done": 0})["done"])


@pytest.mark.verify
def test_no_room_for_the_database(tmp_path: Path, disk: SmallDisk, chance: Generator) -> None:
    """Requests are refused while it lasts, and what a run computes is not lost."""
    account = Database("SQLite").account("disk full while the database is written")
    settings = {"NTK_DATABASE_URL": f"sqlite:///{disk.root / 'ntk.sqlite'}"}
    with served(tmp_path, **settings) as server:
        for seed in range(ROUNDS):
            body = spec(1000, seed=seed)
            run_id = server.create(body)
            server.reach(run_id, int(chance.integers(1, 100)))
            fill_until(disk, server, "waits for the database")
            account.injected += 1
            assert server.client.post("/runs", json=body).status_code == 503
            account.expect(server.show(run_id, fields="")["status"], "running")
            time.sleep(chance.uniform(0, 2))
            disk.free()
            account.audit(list(server.events(run_id)), uninterrupted(body))
            later = server.create(spec(20))  # nothing of it is left in the way
            account.audit(list(server.events(later)), uninterrupted(spec(20)))
