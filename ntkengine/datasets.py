"""Data sets by name: a built-in one, and those that are kept as files in a directory. Torch-free.

A kept data set is a directory of its name with float64 arrays `train.x.npy`, `train.y.npy`, `test.x.npy`,
`test.y.npy`; what it does not have is left out. The environment variable NTK_DATASETS names the directory
that holds them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ntkengine.errors import SpecError

Array = NDArray[np.float64]
Part = Literal["x", "y"]
Split = Literal["train", "test"]

VARIABLE = "NTK_DATASETS"


class Source(Protocol):
    """Where the arrays of one data set come from."""

    def shape(self, split: Split, part: Part) -> tuple[int, ...]:
        """The shape of one of its arrays, without loading it."""

    def load(self, split: Split, part: Part) -> Array:
        """One of its arrays."""


class Digits:
    """scikit-learn's 8 x 8 digits, as `Dataset` describes them."""

    _rows: Mapping[Split, range] = {"train": range(1437), "test": range(1437, 1797)}
    _columns: Mapping[Part, int] = {"x": 64, "y": 10}

    def shape(self, split: Split, part: Part) -> tuple[int, ...]:
        """The shape of one of its arrays."""
        return len(self._rows[split]), self._columns[part]

    def load(self, split: Split, part: Part) -> Array:
        """Pixels between 0 and 1, or one-hot rows minus 1/10."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        array = images / 16.0 if part == "x" else np.eye(10)[labels] - 0.1
        return np.asarray(array[self._rows[split]], dtype=np.float64)


@dataclass(frozen=True)
class Kept:
    """A data set of files."""

    directory: Path

    def shape(self, split: Split, part: Part) -> tuple[int, ...]:
        """The shape of one of its arrays, by the file's header.

        Raises:
            SpecError: it has no such array.
        """
        return self._open(split, part).shape

    def load(self, split: Split, part: Part) -> Array:
        """One of its arrays; pages of the file come into memory as they are read.

        Raises:
            SpecError: it has no such array.
        """
        return self._open(split, part)

    def _open(self, split: Split, part: Part) -> Array:
        try:
            found: Array = np.load(file_of(self.directory, split, part), mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            name = self.directory.name
            if not self.directory.is_dir():
                raise SpecError(f"the data set {name!r} is gone", hint="add it again") from None
            what = {"x": "inputs", "y": "targets"}[part]
            said = f"the data set {name!r} has no {what} in its split {split!r}"
            raise SpecError(said, hint="name another split, or add a data set that has them") from None
        return found


BUILT_IN: Mapping[str, Source] = {"digits": Digits()}


def file_of(directory: Path, split: Split, part: Part) -> Path:
    """Where a kept data set has an array."""
    return directory / f"{split}.{part}.npy"


def source(name: str) -> Source:
    """The data set of this name.

    Raises:
        SpecError: there is none.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    directory = os.environ.get(VARIABLE)
    if directory is None or not (Path(directory) / name).is_dir():
        raise SpecError(f"there is no data set {name!r}", hint=f"built in: {', '.join(BUILT_IN)}")
    return Kept(Path(directory) / name)


def splits_of(directory: Path) -> Iterator[tuple[Split, dict[Part, Any]]]:
    """The splits that a kept data set has, with the shapes of their arrays."""
    splits: tuple[Split, ...] = ("train", "test")
    parts: tuple[Part, ...] = ("x", "y")
    for split in splits:
        there = [part for part in parts if file_of(directory, split, part).exists()]
        if there:
            yield split, {part: Kept(directory).shape(split, part) for part in there}
