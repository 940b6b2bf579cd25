"""A run as one file: every point of every quantity, with the spec that it came from.

Values are taken in as they were recorded, collected by quantity on disk, and written out piece by piece, so
that nobody holds a long run in memory. Torch-free, and without a database: local runs are written by it too.
"""

from __future__ import annotations

import csv
import io
import math
import tempfile
import zipfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from service import arrow
from service.encoding import Array, dumps, npy

BLOCK_BYTES = 1 << 20
NOT_RECORDED = frozenset({"kind", "seq", "at", "step", "time"})  # what else an event says
Place = tuple[str, ...]


class Column:
    """The values of one part of a quantity, all of one shape, in blocks of a file that it shares."""

    def __init__(self, file: io.BufferedRandom, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._file = file
        self._most = max(1, BLOCK_BYTES // (8 * max(1, math.prod(shape))))
        self._starts: list[int] = []
        self._newest: list[Array] = []

    def add(self, value: Array) -> None:
        """Take in the next value.

        Raises:
            ValueError: it has another shape than those before.
        """
        if value.shape != self.shape:
            raise ValueError(f"a value of shape {value.shape} follows one of shape {self.shape}")
        self._newest.append(value)
        if len(self._newest) == self._most:
            self._starts.append(self._file.seek(0, io.SEEK_END))
            self._file.write(np.stack(self._newest).tobytes())
            self._newest = []

    def blocks(self) -> Iterator[Array]:
        """All values in order, some at a time, along a first axis."""
        for start in self._starts:
            self._file.seek(start)
            data = self._file.read(8 * self._most * math.prod(self.shape))
            yield np.frombuffer(data).reshape(self._most, *self.shape)
        if self._newest:
            yield np.stack(self._newest)


@dataclass(frozen=True)
class Quantity:
    """What was recorded under one name, and when."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    times: array[float] = field(default_factory=lambda: array("d"))
    parts: dict[Place, Column] = field(default_factory=dict)
    """By the names of the parts within parts; a quantity without parts has the one place ()."""

    @property
    def axes(self) -> dict[str, Array]:
        """Steps, NaN under a flow, and times."""
        steps = np.array(self.steps)
        return {
            "step": steps if np.isnan(steps).any() else steps.astype(np.int64),
            "time": np.array(self.times),
        }


class Recorded:
    """What was recorded in a run, on disk in `directory`; to be closed."""

    def __init__(self, directory: Path | None = None) -> None:
        self._file: Any = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 (closed when this is)
        self.quantities: dict[str, Quantity] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, point: Mapping[str, Any], load: Callable[[Any], Array] = np.asarray) -> None:
        """Take in a point.

        Args:
            load: what gives the array that a reference stands for.
        """
        for name, value in point.items():
            if name not in NOT_RECORDED:
                self._add(name, point, dict(leaves(value, load)))

    def _add(self, name: str, point: Mapping[str, Any], parts: Mapping[Place, Array]) -> None:
        found = self.quantities.setdefault(name, Quantity())
        if not found.parts:
            found.parts.update({place: Column(self._file, value.shape) for place, value in parts.items()})
        if parts.keys() != found.parts.keys():
            raise ValueError(f"{name} has other parts than before")
        found.steps.append(math.nan if point["step"] is None else point["step"])
        found.times.append(point["time"])
        for place, value in parts.items():
            found.parts[place].add(value)


def leaves(value: Any, load: Callable[[Any], Array], place: Place = ()) -> Iterator[tuple[Place, Array]]:
    """The arrays of a value, by the names of the parts that they are; null becomes NaN."""
    if not isinstance(value, Mapping):
        yield place, np.asarray(value, dtype=np.float64)
    elif value.get("kind") == "array":
        yield place, np.asarray(load(value), dtype=np.float64)
    else:
        for name, inner in value.items():
            yield from leaves(inner, load, (*place, name))


class Sink(io.RawIOBase):
    """Holds what was written to it until it is taken away."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Hold these bytes."""
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def take(self) -> bytes:
        """All since it was taken last."""
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def as_npz(run: Recorded, about: Mapping[str, Any], spec: Any) -> Iterator[bytes]:
    """Arrays `loss.step`, `loss.time`, `loss.value`, `slopes.value.measured`; JSON in `about` and `spec`."""
    sink = Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, text in {"about": about, "spec": spec}.items():
            archive.writestr(f"{name}.npy", npy(np.array(dumps(text))))
        for name, quantity in run.quantities.items():
            for axis, values in quantity.axes.items():
                archive.writestr(f"{name}.{axis}.npy", npy(values))
            for place, column in quantity.parts.items():
                entry = f"{'.'.join((name, 'value', *place))}.npy"
                with archive.open(entry, "w", force_zip64=True) as file:
                    file.write(_npy_header((len(quantity.times), *column.shape)))
                    for block in column.blocks():
                        file.write(block.tobytes())
                        yield sink.take()
    yield sink.take()


def _npy_header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    facts = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue()


def as_csv(run: Recorded, _about: Mapping[str, Any], _spec: Any) -> Iterator[bytes]:
    """A row for each number: its quantity, step, time, and its place i0, i1, ... in the quantity's array."""
    columns = [column for quantity in run.quantities.values() for column in quantity.parts.values()]
    depth = max((len(column.shape) for column in columns), default=0)
    yield _rows([["quantity", "step", "time", *(f"i{axis}" for axis in range(depth)), "value"]])
    for name, quantity in run.quantities.items():
        for place, column in quantity.parts.items():
            label = ".".join((name, *place))
            indices = [(*index, *[""] * (depth - len(index))) for index in np.ndindex(column.shape)]
            moments = zip(*(axis.tolist() for axis in quantity.axes.values()), strict=True)
            for block in column.blocks():
                for values, (step, time) in zip(block, moments, strict=False):
                    at = [label, _or_blank(step), time]
                    numbers = zip(indices, values.ravel().tolist(), strict=True)
                    yield _rows([*at, *index, _or_blank(value)] for index, value in numbers)


def as_parquet(run: Recorded, about: Mapping[str, Any], spec: Any) -> Iterator[bytes]:
    """The table of `as_csv` with types, in a row group for each block; `about` and `spec` in its metadata."""
    depth = max((len(c.shape) for q in run.quantities.values() for c in q.parts.values()), default=0)
    places = {f"i{axis}": "int32" for axis in range(depth)}
    names = {"quantity": "string", "step": "int64", "time": "double", **places, "value": "double"}
    sink, told = Sink(), dumps({"about": about, "spec": spec})
    for _ in arrow.parquet(_tables(run, list(places)), names, told, sink):
        yield sink.take()


def _tables(run: Recorded, places: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of a block, by column; masked where there is nothing."""
    for name, quantity in run.quantities.items():
        for place, column in quantity.parts.items():
            label, done = ".".join((name, *place)), 0
            for block in column.blocks():
                moments = slice(done, done := done + len(block))
                axes = {axis: values[moments] for axis, values in quantity.axes.items()}
                yield {"quantity": [label] * block.size, **_rows_of(block, axes, places)}


def _rows_of(block: Array, axes: Mapping[str, Array], places: list[str]) -> dict[str, Any]:
    each = block[0].size
    step = np.ma.masked_invalid(axes["step"]).astype(np.int64).repeat(each)
    indices = dict(zip(places, np.indices(block.shape).reshape(block.ndim, -1)[1:], strict=False))
    nowhere = np.ma.masked_less(np.full(block.size, -1, np.int32), 0)
    at = {place: indices.get(place, nowhere) for place in places}
    value = np.ma.masked_invalid(block.ravel())
    return {"step": step, "time": axes["time"].repeat(each), **at, "value": value}


def _or_blank(number: float) -> Any:
    return "" if math.isnan(number) else number


def _rows(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def as_json(run: Recorded, about: Mapping[str, Any], spec: Any) -> Iterator[bytes]:
    """The run as `GET /runs/<id>` shows it, with `series` that are whole."""
    head = dumps({**about, "spec": spec}).removesuffix("}")
    yield f'{head},"series":{{'.encode()
    for index, (name, quantity) in enumerate(run.quantities.items()):
        axes = {axis: _plain(values) for axis, values in quantity.axes.items()}
        yield f'{"," * (index > 0)}{dumps(name)}:{dumps(axes).removesuffix("}")},"value":'.encode()
        yield from _json_tree(quantity.parts)
        yield b"}"
    yield b"}}\n"


def _json_tree(parts: Mapping[Place, Column]) -> Iterator[bytes]:
    """Parts within parts as objects, columns as lists."""
    if () in parts:
        yield from _json_list(parts[()])
        return
    for index, name in enumerate(dict.fromkeys(place[0] for place in parts)):
        yield f"{',{'[index == 0]}{dumps(name)}:".encode()
        yield from _json_tree({place[1:]: column for place, column in parts.items() if place[0] == name})
    yield b"}"


def _json_list(column: Column) -> Iterator[bytes]:
    mark = b"["
    for block in column.blocks():
        yield mark + dumps(_plain(block))[1:-1].encode()
        mark = b","
    yield b"]"


def _plain(values: Array) -> Array:
    """Numbers as JSON has them: null for NaN."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    plain = values.astype(object)
    plain[missing] = None
    return plain


@dataclass(frozen=True)
class Format:
    """A form of file."""

    media: str
    write: Callable[[Recorded, Mapping[str, Any], Any], Iterator[bytes]]


FORMATS: Mapping[str, Format] = {
    "npz": Format("application/x-npz", as_npz),
    "csv": Format("text/csv; charset=utf-8; header=present", as_csv),
    "json": Format("application/json", as_json),
    "parquet": Format(arrow.PARQUET, as_parquet),
}
