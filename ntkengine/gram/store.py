"""Gram matrices on disk: a Zarr v3 group, one array a name, and a record of the tiles that are done.

    directory/gram.zarr    the arrays; tiles that are not done read as NaN
    directory/tiles        for each place in the grid of tiles the SHA-256 of its chunks, or zeros

Chunks are tiles, uncompressed, each written whole by one writer under a temporary name and renamed. A tile's
digest is written after its chunks are on disk; a digest never crosses a sector, so it is not torn.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ntkengine.errors import ResourceError, SpecError
from ntkengine.gram.entry import Entry
from ntkengine.gram.plan import Tile, TilePlan
from ntkengine.gram.target import Target

if TYPE_CHECKING:
    import zarr
    from torch import Tensor

GROUP = "gram.zarr"
RECORD = "tiles"
DIGEST = hashlib.sha256().digest_size


class StoredGram:
    """A Gram matrix on disk, finished or not, to be read.

    Args:
        directory: as given to `gram_to_store`.

    Raises:
        FileNotFoundError: there is none.
    """

    def __init__(self, directory: Path) -> None:
        import zarr

        self.directory = directory
        self.group = zarr.open_group(directory / GROUP, mode="r")
        self.request = cast("dict[str, Any]", self.group.attrs["gram"])

    def array(self, name: str) -> zarr.Array[Any]:
        """The Zarr array (n1, n2, *entry.shape): its slices read only the chunks that they touch."""
        return cast("zarr.Array[Any]", self.group[name])

    def rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """The rows start to stop, NaN where they are not computed yet."""
        return np.asarray(self.array(name)[start:stop])

    def digests(self) -> NDArray[np.uint8]:
        """The record, (rows of tiles, columns of tiles, 32): zeros where a tile is not done. Of a symmetric
        matrix only the tiles on and above the diagonal have a digest, which covers both places."""
        record = np.fromfile(self.directory / RECORD, dtype=np.uint8)
        return record.reshape(*self.request["grid"], DIGEST)

    def done(self) -> NDArray[np.bool_]:
        """Which tiles can be read, (rows of tiles, columns of tiles), below the diagonal too."""
        done = self.digests().any(axis=-1)
        return np.logical_or(done, done.T) if self.request["symmetric"] else np.asarray(done)

    def fraction(self) -> float:
        """The share of the tiles that can be read, 1.0 once all can."""
        return float(self.done().mean())

    def has(self, rows: slice, columns: slice) -> bool:
        """Whether all entries of those rows and columns, both given by start and stop, are computed."""
        down, across = (
            slice(part.start // side, -(-part.stop // side))
            for part, side in zip((rows, columns), self.request["tile"], strict=True)
        )
        return bool(self.done()[down, across].all())

    def digest(self) -> str:
        """SHA-256 of the finished matrix: of its content and how that is laid out, however it was computed.

        Raises:
            ValueError: it is not finished.
        """
        if self.fraction() < 1:
            raise ValueError("the digest of a matrix that is not finished")
        layout = {name: self.request[name] for name in ("n1", "n2", "symmetric", "tile", "arrays")}
        text = json.dumps(layout, sort_keys=True).encode()
        return hashlib.sha256(text + self.digests().tobytes()).hexdigest()

    def damaged(self) -> list[tuple[int, int]]:
        """Places in the grid of tiles that are done and whose chunks are not what they were."""
        digests = self.digests()
        places = [(int(i), int(j)) for i, j in np.argwhere(digests.any(axis=-1))]
        return [place for place in places if self._digest(*place) != digests[place].tobytes()]

    def _digest(self, i: int, j: int) -> bytes:
        mirror = self.request["symmetric"] and i != j
        return digest_of(
            np.asarray(self.array(name).blocks[place])
            for name in self.request["arrays"]
            for place in [(i, j), (j, i)][: 1 + mirror]
        )


def digest_of(parts: Iterator[NDArray[Any]]) -> bytes:
    """SHA-256 of arrays, one after the other."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(np.ascontiguousarray(part).data)
    return sha.digest()


def request_of(entries: Mapping[str, Entry], plan: TilePlan, key: str) -> dict[str, Any]:
    """All that a stored matrix depends on: two that agree in this can be continued as one."""
    arrays = {name: {"shape": list(entry.shape), "dtype": entry.dtype} for name, entry in entries.items()}
    kept = ("n1", "n2", "symmetric", "tile", "block", "threads")
    layout = {name: value for name, value in plan.to_dict().items() if name in kept}
    return layout | {"grid": list(plan.grid), "arrays": arrays, "key": key}


class HasWriterError(SpecError):
    """Somebody else writes to the directory now."""


@contextmanager
def writer(directory: Path, entries: Mapping[str, Entry], plan: TilePlan, key: str) -> Iterator[Writer]:
    """The one writer of a directory, which is made if need be.

    Raises:
        ResourceError: too little space on the disk.
        HasWriterError: the directory has a writer.
        SpecError: it holds something else.
    """
    request = request_of(entries, plan, key)
    if not directory.exists():
        check_space(directory, plan.disk_bytes)
        create(directory, request)
    check_same(directory, request)
    with (directory / RECORD).open("r+b") as record:
        try:
            fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the process ends, however it does
        except BlockingIOError:
            raise HasWriterError(f"another process is writing to {directory.name}") from None
        for partial in directory.rglob("*.partial"):  # left by a killed writer
            partial.unlink()
        target = Writer(directory, entries, plan, record.fileno())
        check_space(directory, -(-plan.disk_bytes * len(target.missing()) // plan.count))
        yield target


def check_space(directory: Path, needed: int) -> None:
    """Refuse what the disk cannot hold."""
    existing = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise ResourceError(
            f"this Gram matrix needs {needed:,} bytes of disk, {free:,} are free",
            estimate={"disk_bytes": needed},
            limit={"disk_bytes": free},
            hint="free space, or use float32, fewer inputs or fewer outputs",
        )


def create(directory: Path, request: dict[str, Any]) -> None:
    """An empty matrix: made aside and renamed, so that a directory holds all of it or does not exist."""
    import zarr

    aside = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}")
    group = zarr.create_group(aside / GROUP, zarr_format=3, attributes={"gram": request})
    for name, entry in request["arrays"].items():
        group.create_array(
            name,
            shape=(request["n1"], request["n2"], *entry["shape"]),
            chunks=(*request["tile"], *entry["shape"]),
            dtype=entry["dtype"],
            fill_value=float("nan"),
            filters=None,
            compressors=None,
            chunk_key_encoding={"name": "default", "separator": "."},  # one directory to synchronise
            config={"write_empty_chunks": True},
        )
    (aside / RECORD).write_bytes(bytes(DIGEST * request["grid"][0] * request["grid"][1]))
    for path in [*aside.rglob("*"), aside]:
        synchronise(path)
    aside.rename(directory)
    synchronise(directory.parent)


def check_same(directory: Path, request: dict[str, Any]) -> None:
    """Refuse to continue another matrix."""
    try:
        stored = StoredGram(directory).request
    except (FileNotFoundError, KeyError):
        raise SpecError(f"{directory.name} is not a Gram matrix", hint="give another directory") from None
    different = [name for name in request if stored.get(name) != request[name]]
    if different:
        there = {name: stored.get(name) for name in different}
        asked = {name: request[name] for name in different}
        raise SpecError(
            f"{directory.name} holds another Gram matrix: {there}, not {asked}",
            hint="give another directory, or the plan that this one was begun with",
        )


class Writer(Target):
    """Writes tiles to a directory; `record` is the descriptor of its record."""

    def __init__(self, directory: Path, entries: Mapping[str, Entry], plan: TilePlan, record: int) -> None:
        import zarr

        self.directory = directory
        self.entries = entries
        self.plan = plan
        self.record = record
        group = zarr.open_group(directory / GROUP, mode="r+")
        self.arrays = {name: cast("zarr.Array[Any]", group[name]) for name in entries}

    def missing(self) -> list[Tile]:
        done = StoredGram(self.directory).done().ravel()
        return [tile for tile in self.plan.tiles() if not done[tile.index]]

    def buffers(self, tile: Tile) -> dict[str, Tensor]:
        import torch

        return {
            name: torch.empty(*tile.shape, *entry.shape, dtype=getattr(torch, entry.dtype))
            for name, entry in self.entries.items()
        }

    def commit(self, tile: Tile, filled: Mapping[str, Tensor]) -> None:
        digest = digest_of(self._write(tile, filled))
        for name in self.arrays:
            synchronise(self.directory / GROUP / name)
        os.pwrite(self.record, digest, DIGEST * tile.index)
        os.fdatasync(self.record)

    def _write(self, tile: Tile, filled: Mapping[str, Tensor]) -> Iterator[NDArray[Any]]:
        """Write the chunks of a tile one by one; yield what was written."""
        i, j = divmod(tile.index, self.plan.grid[1])
        for name, entry in self.entries.items():
            yield self._chunk(name, (i, j), filled[name].numpy())
            if self.plan.symmetric and i != j:
                yield self._chunk(name, (j, i), entry.mirror(filled[name]).contiguous().numpy())

    def _chunk(self, name: str, place: tuple[int, int], values: NDArray[Any]) -> NDArray[Any]:
        array = self.arrays[name]
        array.blocks[place] = values
        coordinates = (*place, *[0] * (array.ndim - 2))
        synchronise(self.directory / GROUP / name / array.metadata.encode_chunk_key(coordinates))
        return values


def synchronise(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
