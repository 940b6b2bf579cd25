"""Parts of a large kernel, read from its tiles: while it is computed, and after. Torch-free."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ntkengine.gram import StoredGram
from ntkengine.gram.store import GROUP
from service.encoding import Array
from service.errors import Offence, ServiceError
from service.store.files import JobFiles

PART = re.compile(r"(\d{0,9}):(\d{0,9})")
# The keys that a store of ours can have, and nothing else: no key leads out of it.
KEY = re.compile(r"zarr\.json|(ntk|nngp)/(zarr\.json|c(\.\d{1,6}){2,4})")
PIECE = 1 << 18  # bytes handed to the network at a time; measured


@dataclass(frozen=True)
class Slice:
    """Some rows and columns of one of a job's kernels."""

    kernel: str
    rows: slice
    columns: slice

    @classmethod
    def of(cls, facts: dict[str, Any], kernel: str | None, rows: str, columns: str) -> Slice:
        """The slice that a query asks for.

        Raises:
            ServiceError: the job has no such kernel, rows or columns.
        """
        names = facts["request"]["of"]["get"]
        name = kernel or ("ntk" if "ntk" in names else names[0])
        if name not in names:
            raise _wrong("kernel", f"This job computes {' and '.join(names)}.", name)
        n1, n2 = facts["shape"][:2]
        return cls(name, _part("rows", rows, n1), _part("cols", columns, n2))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def __str__(self) -> str:
        return f"{self.kernel}-{self.rows.start}:{self.rows.stop}-{self.columns.start}:{self.columns.stop}"


def _part(name: str, text: str, length: int) -> slice:
    """`a:b` as Python has it, without steps and negative numbers."""
    found = PART.fullmatch(text)
    if found is None:
        raise _wrong(name, "Write a:b, both of them numbers from 0, or left out.", text)
    start, stop = int(found[1] or 0), int(found[2] or length)
    if not start < stop <= length:
        raise _wrong(name, f"There are {length}: from 0 to {length}, at least one of them.", text)
    return slice(start, stop)


def _wrong(name: str, detail: str, got: str) -> ServiceError:
    wrong = Offence(pointer=name, detail=detail, got=got[:80], hint=detail)
    return ServiceError("invalid", f"{name}: {detail}", offences=[wrong])


def stored(files: JobFiles, wanted: Slice) -> StoredGram:
    """The store, if it has all of the slice.

    Raises:
        ServiceError: some of it is not computed yet; `ready` says which rows of those columns are.
    """
    try:
        gram = StoredGram(files.gram)
    except FileNotFoundError:
        raise ServiceError("not-ready", "Nothing is computed yet.", ready=[]) from None
    if not gram.has(wanted.rows, wanted.columns):
        said = f"Rows {wanted.rows.start} to {wanted.rows.stop} are not all computed in those columns."
        raise ServiceError("not-ready", said, ready=ready(gram, wanted.columns))
    return gram


def ready(gram: StoredGram, columns: slice) -> list[list[int]]:
    """The rows, as [from, to), that are computed in all these columns."""
    n1, side = gram.request["n1"], gram.request["tile"][0]
    found: list[list[int]] = []
    for start in range(0, n1, side):
        band = slice(start, min(start + side, n1))
        if not gram.has(band, columns):
            continue
        if found and found[-1][1] == band.start:
            found[-1][1] = band.stop
        else:
            found.append([band.start, band.stop])
    return found


def read(gram: StoredGram, wanted: Slice) -> Array:
    """The slice as an array."""
    return np.asarray(gram.array(wanted.kernel)[wanted.rows, wanted.columns])


class NpyStream:
    """The slice as an `.npy` file, a row of tiles in memory at a time."""

    def __init__(self, gram: StoredGram, wanted: Slice) -> None:
        self._array = gram.array(wanted.kernel)
        self._side = gram.request["tile"][0]
        self._wanted = wanted
        shape = (*wanted.shape, *self._array.shape[2:])
        header = io.BytesIO()
        described = {"descr": self._array.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, described)
        self._header = header.getvalue()
        self.length = len(self._header) + math.prod(shape) * self._array.dtype.itemsize

    def __iter__(self) -> Iterator[bytes]:
        yield self._header
        rows = self._wanted.rows
        start = rows.start
        while start < rows.stop:
            stop = min(rows.stop, (start // self._side + 1) * self._side)
            band = np.ascontiguousarray(self._array[start:stop, self._wanted.columns])
            data = band.reshape(-1).view(np.uint8).data
            for place in range(0, len(data), PIECE):
                yield data[place : place + PIECE]  # type: ignore[misc]
            start = stop


def zarr_path(files: JobFiles, key: str) -> Path:
    """The file behind a key of the store.

    Raises:
        ServiceError: the store has no such key, or not yet.
    """
    path = files.gram / GROUP / key
    if KEY.fullmatch(key) is None or not path.is_file():
        hint = "A chunk that is not there is not computed yet; it reads as NaN."
        raise ServiceError("not-found", "The store has no such key.", hint=hint)
    return path
