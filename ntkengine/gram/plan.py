"""How a Gram matrix is cut: a pure function of shapes and a byte budget. Torch-free.

Two sizes matter. A tile is what is kept, recorded as done and, on disk, one chunk. Inside it, blocks are
what is computed at a time: small enough for the processor's cache, or for the budget where rows are large.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ntkengine.errors import ResourceError, SpecError
from ntkengine.gram.entry import Entry

MEMORY_BUDGET = 2 * 1024**3
CACHE = 2 * 1024**2  # working memory of a block; measured, see docs/decisions/0006
CHUNK = 4 * 1024**2  # bytes of a chunk on disk
COPIES = 3  # of a tile on its way to disk: as computed, mirrored, and as the store encodes it
RETAINED = 2.5  # what the process keeps, over what blocks and tiles hold at a time; measured, 2.2 at most
RESERVE = 16 * 1024**2  # what threads and the store need, however small the matrix; measured


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a part of the matrix, and its place in the grid, row by row."""

    rows: slice
    columns: slice
    index: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


@dataclass(frozen=True)
class TilePlan:
    """How a Gram matrix will be computed. The bytes are estimates, not measurements."""

    n1: int
    n2: int
    symmetric: bool  # only tiles on and above the diagonal are computed
    tile: tuple[int, int]
    block: tuple[int, int]
    workers: int  # tiles computed at a time; the result does not depend on it
    threads: int  # of torch inside a block; a matrix product may depend on it in the last bit
    bytes: int  # at the peak; the result included where it is in memory
    disk_bytes: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles, those below the diagonal included."""
        return -(-self.n1 // self.tile[0]), -(-self.n2 // self.tile[1])

    @property
    def count(self) -> int:
        """The tiles to compute."""
        down, across = self.grid
        return down * (down + 1) // 2 if self.symmetric else down * across

    def tiles(self) -> Iterator[Tile]:
        """The tiles to compute, row by row; those at the ends may be smaller."""
        across = self.grid[1]
        for i, rows in enumerate(cuts(0, self.n1, self.tile[0])):
            for j, columns in enumerate(cuts(0, self.n2, self.tile[1])):
                if not self.symmetric or i <= j:
                    yield Tile(rows, columns, i * across + j)

    def on_diagonal(self, tile: Tile) -> bool:
        """Whether the tile is its own mirror image."""
        return self.symmetric and tile.rows == tile.columns

    def blocks(self, tile: Tile) -> Iterator[tuple[slice, slice]]:
        """The blocks of a tile to compute; of one on the diagonal, those on and above it."""
        for rows in cuts(tile.rows.start, tile.rows.stop, self.block[0]):
            for columns in cuts(tile.columns.start, tile.columns.stop, self.block[1]):
                if not self.on_diagonal(tile) or rows.start <= columns.start:
                    yield rows, columns

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"tile": list(self.tile), "block": list(self.block), "tiles": self.count}


def plan_tiles(
    entries: Mapping[str, Entry],
    n1: int,
    n2: int | None = None,
    *,
    bytes_per_pair: int,
    bytes_per_row: int = 0,
    budget: int = MEMORY_BUDGET,
    in_memory: bool = True,
    cache: int = CACHE,
    chunk: int = CHUNK,
    workers: int = 1,
    threads: int = 1,
) -> TilePlan:
    """The largest tiles and blocks that keep the peak of memory under `budget` bytes.

    A block of r rows and c columns is taken to need `bytes_per_pair r c + bytes_per_row (r + c)` bytes
    while it is computed, its values included; each worker computes one, and `budget` counts what all of
    them hold, what the allocator is known to keep, and the result where it is in memory. It does not count
    the inputs and the program as it was before.

    Args:
        entries: the arrays, by name.
        n1: rows.
        n2: columns; None is the Gram matrix of one set of inputs, of which half is computed.
        in_memory: the result is in memory; otherwise it goes to disk.
        cache: bytes that the pairs of a block do not exceed, whatever the budget.
        chunk: bytes of an array that a tile on disk does not exceed, whatever the budget.
        workers: tiles to compute at a time.
        threads: of torch, for each worker.

    Raises:
        SpecError: a size is not positive.
        ResourceError: not even blocks of one pair fit.

    >>> from ntkengine.gram import Entry, plan_tiles
    >>> plan = plan_tiles({"ntk": Entry()}, 3000, bytes_per_pair=64, in_memory=False)
    >>> plan.tile, plan.block, plan.count
    ((600, 600), (150, 150), 15)
    """
    symmetric, n2 = n2 is None, n1 if n2 is None else n2
    if min(n1, n2, bytes_per_pair, workers, threads) < 1 or not entries:
        raise SpecError("a Gram matrix needs rows, columns, an array, a worker and bytes for a pair")
    entry = sum(each.bytes for each in entries.values())
    fixed = RESERVE + (n1 * n2 * entry if in_memory else 0)
    copies = 0 if in_memory else COPIES * entry  # bytes for each pair of a tile
    share = math.floor((budget - fixed) / (RETAINED * workers))
    least = copies + bytes_per_pair + 2 * bytes_per_row
    if share < least:
        raise over_budget(fixed + math.ceil(RETAINED * workers * least), budget, in_memory)
    tile = (n1, n2) if in_memory else evenly((n1, n2), tile_side(entries, chunk, share - least))
    left = share - copies * math.prod(tile)
    # the largest b with pairs b^2 + 2 rows b <= left
    fits = (math.isqrt(bytes_per_row**2 + bytes_per_pair * left) - bytes_per_row) // bytes_per_pair
    block = evenly(tile, max(1, min(math.isqrt(cache // bytes_per_pair), fits)))
    held = copies * math.prod(tile) + bytes_per_pair * math.prod(block) + bytes_per_row * sum(block)
    return TilePlan(
        n1=n1,
        n2=n2,
        symmetric=symmetric,
        tile=block if in_memory else tile,  # in memory nothing is gained by keeping blocks together
        block=block,
        workers=workers,
        threads=threads,
        bytes=fixed + math.ceil(RETAINED * workers * held),
        disk_bytes=0 if in_memory else entry * padded(n1, tile[0]) * padded(n2, tile[1]),
    )


def over_budget(needed: int, budget: int, in_memory: bool) -> ResourceError:
    """The error that says by how much."""
    hint = "write it to disk, or raise the budget" if in_memory else "raise the budget, or use fewer workers"
    return ResourceError(
        f"this Gram matrix needs at least {needed:,} bytes of memory, the budget is {budget:,}",
        estimate={"bytes": needed},
        limit={"bytes": budget},
        hint=hint,
    )


def tile_side(entries: Mapping[str, Entry], chunk: int, share: int) -> int:
    """The side of a square tile on disk: of the size of a chunk, in at most half of a worker's share."""
    largest = max(each.bytes for each in entries.values())
    copies = COPIES * sum(each.bytes for each in entries.values())
    return max(1, math.isqrt(min(chunk // largest, share // 2 // copies)))


def evenly(lengths: tuple[int, int], side: int) -> tuple[int, int]:
    """Sides of at most `side` that cut each length into as few and as equal parts as can be."""
    first, second = (-(-length // -(-length // side)) for length in lengths)
    return first, second


def padded(length: int, side: int) -> int:
    """The length in whole tiles: a chunk at the end is stored whole."""
    return -(-length // side) * side


def cuts(start: int, stop: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover start to stop."""
    return (slice(low, min(low + size, stop)) for low in range(start, stop, size))
