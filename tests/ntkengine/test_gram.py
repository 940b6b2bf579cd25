"""Gram matrices in tiles: any plan gives the same matrix, within its budget, however often it is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ntkengine.errors import Cancelled, ResourceError, SpecError
from ntkengine.gram import Entry, StoredGram, TilePlan, gram, gram_to_store, plan_tiles
from ntkengine.gram.compute import Block
from ntkengine.gram.plan import RESERVE, RETAINED
from tests.compare import assert_close
from tests.ntkengine.slow_gram import ENTRIES, block_of, kernels, points, stored_plan

ROOT = Path(__file__).parents[2]
MIB = 1024**2


def recorded(block: Block) -> tuple[Block, list[tuple[slice, slice]]]:
    """The block, and where it will have been asked."""
    calls: list[tuple[slice, slice]] = []

    def recording(rows: slice, columns: slice) -> Mapping[str, Tensor]:
        calls.append((rows, columns))
        return block(rows, columns)

    return recording, calls


def times_computed(plan: TilePlan, calls: list[tuple[slice, slice]]) -> np.ndarray:
    counts = np.zeros((plan.n1, plan.n2), dtype=int)
    for rows, columns in calls:
        counts[rows, columns] += 1
    return counts


def assert_same(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert torch.equal(actual[name], array), name


def contents(stored: StoredGram) -> dict[str, Tensor]:
    return {name: torch.from_numpy(stored.rows(name, 0, stored.request["n1"])) for name in ENTRIES}


sizes = st.integers(1, 40)
plans = st.builds(
    plan_tiles,
    st.just(ENTRIES),
    sizes,
    st.none() | sizes,
    bytes_per_pair=st.integers(1, 300),
    bytes_per_row=st.integers(0, 500),
    budget=st.integers(RESERVE + 50_000, RESERVE + 200_000),
    in_memory=st.booleans(),
    cache=st.integers(0, 20_000),
    chunk=st.integers(0, 20_000),
    workers=st.integers(1, 3),
)


@given(plan=plans)
def test_blocks_cover_each_pair_once_and_none_below_the_diagonal(plan: TilePlan) -> None:
    blocks = [block for tile in plan.tiles() for block in plan.blocks(tile)]
    counts = times_computed(plan, blocks)
    if plan.symmetric:
        assert all(rows == columns or rows.stop <= columns.start for rows, columns in blocks)
        below = np.tri(plan.n1, k=-1, dtype=bool)
        on_diagonal = [rows for rows, columns in blocks if rows == columns]
        for rows in on_diagonal:  # computed whole
            below[rows, rows] = False
        assert not counts[below].any()
        counts[below] = 1
    assert (counts == 1).all()
    assert len(list(plan.tiles())) == plan.count


@given(
    n1=sizes,
    n2=st.none() | sizes,
    pair=st.integers(1, 300),
    row=st.integers(0, 500),
    workers=st.integers(1, 3),
    extra=st.integers(-3000, 10_000),
    in_memory=st.booleans(),
)
def test_plans_stay_under_their_budget(
    n1: int, n2: int | None, pair: int, row: int, workers: int, extra: int, in_memory: bool
) -> None:
    result = 24 * n1 * (n2 or n1) if in_memory else 0
    least = pair + 2 * row + (0 if in_memory else 3 * 24)  # one pair, and three copies on their way to disk
    budget = RESERVE + result + ceil(RETAINED * workers * least) + extra

    def planned() -> TilePlan:
        sizes = {"bytes_per_pair": pair, "bytes_per_row": row, "workers": workers}
        return plan_tiles(ENTRIES, n1, n2, budget=budget, in_memory=in_memory, **sizes)

    if extra < 0:
        with pytest.raises(ResourceError) as caught:
            planned()
        assert caught.value.limit == {"bytes": budget}
        assert caught.value.estimate == {"bytes": budget - extra}
        return
    plan = planned()
    assert plan.bytes <= budget
    assert plan.block[0] <= plan.tile[0]
    assert plan.block[1] <= plan.tile[1]


@settings(deadline=None, max_examples=60)
@given(plan=plans)
def test_any_plan_gives_the_same_matrix(plan: TilePlan) -> None:
    x1 = points(plan.n1)
    x2 = None if plan.symmetric else points(plan.n2, seed=1)
    result = gram(block_of(x1, x2), ENTRIES, plan)
    whole = kernels(x1, x1 if x2 is None else x2)
    assert_close(result["near"], whole["near"], rtol=1e-15)
    assert_close(result["blocks"], whole["blocks"], rtol=1e-7)
    if plan.symmetric:
        assert torch.equal(result["near"], result["near"].T)
        assert torch.equal(result["blocks"], result["blocks"].permute(1, 0, 3, 2))


@settings(deadline=None, max_examples=10)
@given(n=st.integers(1, 40), n2=st.none() | sizes, workers=st.integers(1, 3))
def test_workers_and_disk_change_no_bit(
    tmp_path_factory: pytest.TempPathFactory, n: int, n2: int | None, workers: int
) -> None:
    plan = plan_tiles(ENTRIES, n, n2, bytes_per_pair=100, in_memory=False, cache=1000, chunk=900)
    x1 = points(n)
    block = block_of(x1, None if n2 is None else points(n2, seed=1))
    alone = gram(block, ENTRIES, plan)
    plan = replace(plan, workers=workers)
    assert_same(gram(block, ENTRIES, plan), alone)
    stored = gram_to_store(block, ENTRIES, plan, tmp_path_factory.mktemp("gram") / "stored")
    assert_same(contents(stored), alone)
    assert stored.fraction() == 1.0
    assert stored.damaged() == []


def test_a_mirror_of_ones_own() -> None:
    # trailing axes (space, space', k) exchange the first two with the inputs
    def mirror(tile: Tensor) -> Tensor:
        return tile.permute(1, 0, 3, 2, 4)

    x = points(7)[:, :, None] * torch.tensor([1.0, 2.0])

    def block(rows: slice, columns: slice) -> dict[str, Tensor]:
        return {"positions": torch.einsum("isk,jtk->ijstk", x[rows], x[columns])}

    entries = {"positions": Entry(shape=(3, 3, 2), mirror=mirror)}
    plan = plan_tiles(entries, 7, bytes_per_pair=1, cache=9)
    assert plan.count == 6
    assert_same(gram(block, entries, plan), block(slice(0, 7), slice(0, 7)))


def test_each_block_is_asked_for_once_without_gradients_on_as_many_threads_as_planned() -> None:
    plan = plan_tiles(ENTRIES, 23, bytes_per_pair=100, cache=2000, workers=2, threads=3)
    block, calls = recorded(block_of(points(23)))
    seen: set[tuple[bool, int]] = set()

    def asking(rows: slice, columns: slice) -> Mapping[str, Tensor]:
        seen.add((torch.is_grad_enabled(), torch.get_num_threads()))
        return block(rows, columns)

    before = torch.get_num_threads()
    reports: list[tuple[int, int]] = []
    gram(asking, ENTRIES, plan, progress=lambda done, total, seconds: reports.append((done, total)))
    assert seen == {(False, 3)}
    assert torch.get_num_threads() == before
    planned = [block for tile in plan.tiles() for block in plan.blocks(tile)]
    assert sorted(calls, key=str) == sorted(planned, key=str)
    assert reports == [(done, plan.count) for done in range(1, plan.count + 1)]


@pytest.mark.parametrize(
    "wrong", [lambda value: value.float(), lambda value: value[:1], lambda value: value[0]]
)
def test_blocks_are_neither_rounded_nor_broadcast(wrong: Callable[[Tensor], Tensor]) -> None:
    plan = plan_tiles({"near": Entry()}, 6, bytes_per_pair=8)
    block = block_of(points(6))
    with pytest.raises(ValueError, match="near: the block is"):
        gram(lambda r, c: {"near": wrong(block(r, c)["near"])}, {"near": Entry()}, plan)


def test_results_in_memory_count() -> None:
    budget = RESERVE + 800_000_000
    with pytest.raises(ResourceError, match="needs at least 816,777,236 bytes") as caught:
        plan_tiles({"near": Entry()}, 10_000, bytes_per_pair=8, budget=budget)
    assert caught.value.hint == "write it to disk, or raise the budget"
    assert plan_tiles({"near": Entry()}, 10_000, bytes_per_pair=8, budget=budget + 20).block == (1, 1)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(SpecError, match="needs rows"):
        plan_tiles(ENTRIES, 0, bytes_per_pair=8)


def test_cancelled_between_tiles_and_continued(tmp_path: Path) -> None:
    plan = stored_plan(31, workers=1)
    done = 0

    def count(tiles: int, total: int, seconds: float) -> None:
        nonlocal done
        done = tiles

    block, calls = recorded(block_of(points(31)))
    with pytest.raises(Cancelled, match=f"after 5 of {plan.count} tiles"):
        gram_to_store(block, ENTRIES, plan, tmp_path / "g", progress=count, cancelled=lambda: done == 5)
    gram_to_store(block, ENTRIES, plan, tmp_path / "g", progress=count)
    assert done == plan.count
    planned = [block for tile in plan.tiles() for block in plan.blocks(tile)]
    assert calls == planned


@contextmanager
def computing(directory: Path, n: int, pause: float) -> Iterator[subprocess.Popen[bytes]]:
    """A process that computes slowly, killed at the end if it still runs."""
    command = [sys.executable, "-m", "tests.ntkengine.slow_gram", str(directory), str(n), str(pause)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(directory: Path, fraction: float, process: subprocess.Popen[bytes]) -> StoredGram:
    """The matrix, once that much of it is done, and before it is finished."""
    deadline = time.monotonic() + 60
    while not directory.exists() or StoredGram(directory).fraction() < fraction:
        assert process.poll() is None, "ended early"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return StoredGram(directory)


@pytest.mark.faults
def test_killed_twice_and_continued_to_the_last_bit(tmp_path: Path) -> None:
    n, directory = 61, tmp_path / "killed"
    plan = stored_plan(n)
    whole = gram_to_store(block_of(points(n)), ENTRIES, plan, tmp_path / "whole", key="slow")
    for share in (0.2, 0.5):
        with computing(directory, n, 0.003) as process:
            wait_for(directory, share, process)
            process.send_signal(signal.SIGKILL)
            process.wait()
    (directory / "gram.zarr" / "near" / "c.0.7b.partial").write_bytes(b"torn")
    killed = StoredGram(directory)
    done = killed.done().ravel()
    assert 0.5 <= done.mean() < 1
    assert killed.damaged() == []
    block, calls = recorded(block_of(points(n)))
    finished = gram_to_store(block, ENTRIES, plan, directory, key="slow")
    left = [block for tile in plan.tiles() if not done[tile.index] for block in plan.blocks(tile)]
    assert sorted(calls, key=str) == sorted(left, key=str)
    assert_same(contents(finished), contents(whole))
    assert finished.digest() == whole.digest()
    assert list(directory.rglob("*.partial")) == []


@pytest.mark.faults
def test_slices_are_readable_while_another_process_computes(tmp_path: Path) -> None:
    n = 61
    expected = gram(block_of(points(n)), ENTRIES, stored_plan(n))
    with computing(tmp_path / "g", n, 0.003) as process:
        seen = wait_for(tmp_path / "g", 0.3, process)
        done = seen.done()
        values = torch.from_numpy(seen.rows("near", 0, n))
        blocks = torch.from_numpy(np.asarray(seen.array("blocks")[3:9, :, 0, 1]))
        assert not seen.has(slice(0, n), slice(0, n))
        with pytest.raises(ValueError, match="not finished"):
            seen.digest()
        assert process.poll() is None
    down, across = seen.request["tile"]
    readable = torch.from_numpy(done.repeat(down, 0).repeat(across, 1)[:n, :n].copy())
    assert seen.has(slice(0, down), slice(0, across))
    assert torch.equal(values[readable], expected["near"][readable])
    there = ~values.isnan()
    assert torch.equal(values[there], expected["near"][there])  # never torn, never half of a tile
    assert values.isnan().any()
    assert torch.equal(blocks[readable[3:9]], expected["blocks"][3:9, :, 0, 1][readable[3:9]])


@pytest.mark.parametrize("change", ["key", "rows", "tiles", "dtype", "arrays", "columns"])
def test_another_matrix_is_not_continued(tmp_path: Path, change: str) -> None:
    entries = {"near": ENTRIES["near"]}
    block = block_of(points(20))

    def plan(n: int = 20, n2: int | None = None, cache: int = 2000) -> TilePlan:
        return plan_tiles(entries, n, n2, bytes_per_pair=100, in_memory=False, cache=cache)

    gram_to_store(block, entries, plan(), tmp_path / "g", key="a")
    digest = StoredGram(tmp_path / "g").digest()
    other = {
        "key": (entries, plan(), "b"),
        "rows": (entries, plan(19), "a"),
        "tiles": (entries, plan(cache=500), "a"),
        "dtype": ({"near": Entry(dtype="float32")}, plan(), "a"),
        "arrays": ({"far": Entry()}, plan(), "a"),
        "columns": (entries, plan(20, 20), "a"),
    }[change]
    with pytest.raises(SpecError, match="holds another Gram matrix"):
        gram_to_store(block, other[0], other[1], tmp_path / "g", key=other[2])
    again, calls = recorded(block)
    assert gram_to_store(again, entries, plan(), tmp_path / "g", key="a").digest() == digest
    assert calls == []


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SpecError, match="is not a Gram matrix"):
        gram_to_store(block_of(points(9)), ENTRIES, stored_plan(9), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    plan = stored_plan(20)
    block = block_of(points(20))
    started, go = threading.Event(), threading.Event()

    def waiting(rows: slice, columns: slice) -> Mapping[str, Tensor]:
        started.set()
        assert go.wait(60)
        return block(rows, columns)

    first = threading.Thread(target=gram_to_store, args=(waiting, ENTRIES, plan, tmp_path / "g"))
    first.start()
    try:
        assert started.wait(60)
        with pytest.raises(SpecError, match="another process is writing"):
            gram_to_store(block, ENTRIES, plan, tmp_path / "g")
    finally:
        go.set()
        first.join()
    assert StoredGram(tmp_path / "g").fraction() == 1.0


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    n = int((free / 8) ** 0.5) + 1000
    plan = plan_tiles({"near": Entry()}, n, bytes_per_pair=100, in_memory=False)
    with pytest.raises(ResourceError, match="bytes of disk") as caught:
        gram_to_store(block_of(points(1)), {"near": Entry()}, plan, tmp_path / "g")
    assert caught.value.estimate["disk_bytes"] == plan.disk_bytes >= 8 * n * n
    assert caught.value.limit["disk_bytes"] <= 1.1 * free
    assert list(tmp_path.iterdir()) == []


def test_changed_bytes_are_found(tmp_path: Path) -> None:
    stored = gram_to_store(block_of(points(30)), ENTRIES, stored_plan(30), tmp_path / "g")
    for below in ("near/c.1.0", "blocks/c.2.3.0.0"):
        chunk = tmp_path / "g" / "gram.zarr" / below
        data = bytearray(chunk.read_bytes())
        data[5] ^= 1
        chunk.write_bytes(data)
    assert stored.damaged() == [(0, 1), (2, 3)]


def test_digests_name_the_content(tmp_path: Path) -> None:
    plan = stored_plan(30)
    first, same, other = (
        gram_to_store(
            block_of(points(30, seed)), ENTRIES, replace(plan, workers=workers), tmp_path / key, key=key
        )
        for key, seed, workers in [("a", 0, 1), ("b", 0, 2), ("c", 1, 2)]
    )
    assert first.digest() == same.digest() != other.digest()


PEAK = """
import sys, torch
from pathlib import Path
from ntkengine.gram import Entry, gram_to_store, plan_tiles

torch.set_num_threads(1)
directory, n, budget = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
entries = {"near": Entry(dtype="float32"), "far": Entry(dtype="float32")}

def compute(n, name):
    x = torch.linspace(0, 1, n)

    def block(rows, columns):
        near = x[rows, None] - x[columns]
        near = torch.exp(-near * near)
        return {"near": near, "far": 1 - near}

    plan = plan_tiles(entries, n, bytes_per_pair=16, in_memory=False, budget=budget, cache=budget, workers=2)
    gram_to_store(block, entries, plan, directory / name)
    return plan

def resident(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return 1024 * int(line.split()[1])

compute(100, "warm")  # whatever is loaded at the first use
open("/proc/self/clear_refs", "w").write("5")  # the peak from here on
before = resident("VmRSS")
plan = compute(n, "large")
print(plan.bytes, resident("VmHWM") - before)
"""


@pytest.mark.parametrize("budget", [32 * MIB, 128 * MIB])
def test_peak_memory_stays_under_the_budget(tmp_path: Path, budget: int) -> None:
    # two arrays of 144 MB each; measured in a process of its own
    command = [sys.executable, "-c", PEAK, str(tmp_path), "6000", str(budget)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    planned, measured = map(int, run.stdout.split())
    assert planned <= budget
    assert measured <= budget
