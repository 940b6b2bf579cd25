"""Computing a Gram matrix tile by tile."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ntkengine.errors import Cancelled
from ntkengine.gram.entry import Entry
from ntkengine.gram.plan import Tile, TilePlan
from ntkengine.gram.store import StoredGram, writer
from ntkengine.gram.target import Memory, Target

if TYPE_CHECKING:
    from torch import Tensor

Block = Callable[[slice, slice], Mapping[str, "Tensor"]]
Progress = Callable[[int, int, float], None]  # tiles done, of how many, seconds since this call began


def ignore(done: int, total: int, seconds: float) -> None:
    """No one asks for progress."""


def never() -> bool:
    """No one cancels."""
    return False


def gram(
    block: Block,
    entries: Mapping[str, Entry],
    plan: TilePlan,
    *,
    progress: Progress = ignore,
    cancelled: Callable[[], bool] = never,
) -> dict[str, Tensor]:
    """The arrays of a Gram matrix, each (n1, n2, *entry.shape), in memory.

    Args:
        block: for slices of rows and of columns, the values (rows, columns, *entry.shape) of every array,
            by name, in the dtype of its entry. Where x2 is x1 it is asked for blocks on and above the
            diagonal; for one on the diagonal both slices are equal, and its values must be symmetric. It
            is called by `plan.workers` threads at a time, or by the caller's where one will do, without
            gradients, and torch has `plan.threads` threads in the whole process while it runs.
        entries: the arrays, by name.
        plan: of `plan_tiles`, for the same entries.
        progress: called after each tile, by the caller's thread.
        cancelled: asked between tiles, by the caller's thread.

    The result is the same to the last bit for any number of workers, as long as tile and block are.

    Raises:
        Cancelled: as `cancelled` said.
        ValueError: `block` returned another shape or dtype.

    >>> import torch
    >>> from ntkengine.gram import Entry, gram, plan_tiles
    >>> x = torch.arange(3, dtype=torch.float64)
    >>> entries = {"product": Entry()}
    >>> plan = plan_tiles(entries, 3, bytes_per_pair=8)
    >>> gram(lambda rows, columns: {"product": torch.outer(x[rows], x[columns])}, entries, plan)["product"]
    tensor([[0., 0., 0.],
            [0., 1., 2.],
            [0., 2., 4.]], dtype=torch.float64)
    """
    memory = Memory(plan, entries)
    fill(block, entries, plan, memory, progress, cancelled)
    return memory.arrays


def gram_to_store(
    block: Block,
    entries: Mapping[str, Entry],
    plan: TilePlan,
    directory: Path,
    *,
    key: str = "",
    progress: Progress = ignore,
    cancelled: Callable[[], bool] = never,
) -> StoredGram:
    """The same on disk, where the call goes on from the tiles that an earlier one left.

    A tile counts as done once its chunks are durably on disk; a process that is killed loses the tiles it
    was at. What is there can be read, by any process, while others are computed: see `StoredGram`.

    Args:
        directory: of this matrix alone; made if it does not exist.
        key: names what `block` computes (such as a digest of model and inputs), so that no matrix is
            continued as another one.

    Raises:
        Cancelled: as `cancelled` said; the tiles that were done stay.
        ResourceError: the disk has too little space for what is missing; nothing was written.
        SpecError: the directory holds another matrix, or one with other tiles, or something else, or
            another process is writing to it.
        ValueError: `block` returned another shape or dtype.
    """
    with writer(directory, entries, plan, key) as target:
        fill(block, entries, plan, target, progress, cancelled)
    return StoredGram(directory)


def fill(
    block: Block,
    entries: Mapping[str, Entry],
    plan: TilePlan,
    target: Target,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> None:
    """Compute the tiles that a target misses."""

    def compute(tile: Tile) -> None:
        buffers = target.buffers(tile)
        compute_tile(block, entries, plan, tile, buffers)
        target.commit(tile, buffers)

    start = time.monotonic()
    missing = target.missing()
    done, workers = plan.count - len(missing), min(plan.workers, len(missing))
    steps = side_by_side(compute, missing, workers) if workers > 1 else in_turn(compute, missing)
    with torch_threads(plan.threads), closing(steps):
        while done < plan.count:
            if cancelled():
                raise Cancelled(f"cancelled after {done} of {plan.count} tiles")
            next(steps)
            done += 1
            progress(done, plan.count, time.monotonic() - start)


Compute = Callable[[Tile], None]


def in_turn(compute: Compute, tiles: Iterable[Tile]) -> Generator[None, None, None]:
    """Compute tiles in the caller's thread, one for each step: a thread costs more than a small kernel."""
    for tile in tiles:
        compute(tile)
        yield


def side_by_side(compute: Compute, tiles: Iterable[Tile], workers: int) -> Generator[None, None, None]:
    """Compute tiles in threads; a step ends with a tile. Closing waits for those that are being computed."""
    left = iter(tiles)
    with ThreadPoolExecutor(workers) as pool:
        pending: set[Future[None]] = set()
        while more := {pool.submit(compute, tile) for tile in islice(left, workers - len(pending))} | pending:
            finished, pending = wait(more, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                yield


def compute_tile(
    block: Block, entries: Mapping[str, Entry], plan: TilePlan, tile: Tile, buffers: Mapping[str, Tensor]
) -> None:
    """Fill the buffers of a tile, block by block."""
    for rows, columns in plan.blocks(tile):
        down, across = within(tile.rows, rows), within(tile.columns, columns)
        here = {name: buffer[down, across] for name, buffer in buffers.items()}
        opposite = {name: buffer[across, down] for name, buffer in buffers.items()}
        compute_block(block, entries, rows, columns, here, opposite if plan.on_diagonal(tile) else {})


def compute_block(
    block: Block,
    entries: Mapping[str, Entry],
    rows: slice,
    columns: slice,
    here: Mapping[str, Tensor],
    opposite: Mapping[str, Tensor],
) -> None:
    """Copy the values of a block to its place, and to the opposite one; hold them no longer."""
    import torch

    with torch.no_grad():  # which is a setting of the thread
        values = block(rows, columns)
    for name, part in here.items():
        check(name, values[name], part)
        part.copy_(values[name])
        if rows != columns and opposite:
            opposite[name].copy_(entries[name].mirror(values[name]))


def check(name: str, values: Tensor, part: Tensor) -> None:
    """Refuse what a copy would broadcast or round."""
    if values.shape != part.shape or values.dtype != part.dtype:
        expected, got = (f"{tuple(each.shape)} of {each.dtype}" for each in (part, values))
        raise ValueError(f"{name}: the block is {got}, expected {expected}")


def within(outer: slice, inner: slice) -> slice:
    """The inner slice, counted from the start of the outer one."""
    return slice(inner.start - outer.start, inner.stop - outer.start)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch with that many threads, in threads that start inside."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
