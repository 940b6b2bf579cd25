"""A kernel of any size as an image of at most 256 x 256 means, while it is computed and after."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.gram import StoredGram
from service.encoding import npz
from service.store.files import JobFiles, write_durably

LARGEST = 256


class Preview:
    """Sums of the entries that fall on each pixel, added to tile by tile, by the process that computes."""

    def __init__(self, files: JobFiles) -> None:
        self._files = files
        self._pooled: set[tuple[int, int]] = set()
        self._sums: dict[str, NDArray[np.float64]] = {}

    def add_new_tiles(self) -> None:
        """Take in the tiles that were computed since, and write the preview."""
        stored = StoredGram(self._files.gram)
        for i, j in np.argwhere(stored.done()).tolist():
            place = (i, j)
            if place not in self._pooled:
                self._pooled.add(place)
                for name in stored.request["arrays"]:
                    self._add(stored, name, place)
        self._write(stored)

    def _add(self, stored: StoredGram, name: str, place: tuple[int, int]) -> None:
        request = stored.request
        sums = self._sums.setdefault(name, np.zeros(pixels(request)))
        lengths = (request["n1"], request["n2"])
        values = np.asarray(stored.array(name).blocks[place], dtype=np.float64)
        values = values.reshape(*values.shape[:2], -1).mean(axis=2)
        where = []
        for axis in (0, 1):
            start = place[axis] * request["tile"][axis]
            each = pixel_of(np.arange(start, start + values.shape[axis]), lengths[axis], sums.shape[axis])
            touched, first = np.unique(each, return_index=True)
            values = np.add.reduceat(values, first, axis=axis)
            where.append(touched)
        sums[np.ix_(*where)] += values

    def _write(self, stored: StoredGram) -> None:
        """A pixel is known once all its tiles are; until then it is NaN."""
        request = stored.request
        down, across = pixels(request)
        rows, columns = counts(request["n1"], down), counts(request["n2"], across)
        ready = complete(stored, (down, across))
        means = {
            name: np.where(ready, total / np.outer(rows, columns), np.nan)
            for name, total in self._sums.items()
        }
        write_durably(self._files.preview, npz(means))


def pixels(request: dict[str, Any]) -> tuple[int, int]:
    """Size of the image."""
    return min(request["n1"], LARGEST), min(request["n2"], LARGEST)


def pixel_of(index: NDArray[np.int64], length: int, size: int) -> NDArray[np.int64]:
    """The pixel that holds each row or column: equal parts, as near as integers allow."""
    return index * size // length


def counts(length: int, size: int) -> NDArray[np.int64]:
    """How many rows or columns fall on each pixel."""
    return np.bincount(pixel_of(np.arange(length), length, size), minlength=size)


def complete(stored: StoredGram, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose tiles are all done."""
    request, missing = stored.request, ~stored.done()
    hidden = np.zeros(size, dtype=bool)
    for i, j in np.argwhere(missing):
        hidden[_touched(request, 0, int(i), size[0]), _touched(request, 1, int(j), size[1])] = True
    return ~hidden


def _touched(request: dict[str, Any], axis: int, place: int, size: int) -> slice:
    length, side = (request["n1"], request["n2"])[axis], request["tile"][axis]
    first, last = place * side, min(length, (place + 1) * side) - 1
    return slice(first * size // length, last * size // length + 1)
