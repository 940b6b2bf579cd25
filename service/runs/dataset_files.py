"""What was uploaded as a data set becomes arrays on disk. Runs in a computing process, under its limits.

Nothing that a file says of itself is believed: sizes are counted while reading, and nothing is unpickled.
"""

from __future__ import annotations

import csv
import hashlib
import lzma
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ntkengine.data import read_npy
from ntkengine.datasets import file_of, splits_of
from ntkengine.errors import ResourceError, SpecError, UnsupportedError
from service.encoding import Array, Message

CSV, NPZ = "text/csv", "application/x-npz"
ARROW = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
MOST_CLASSES = 1000
BAD_ARCHIVE = (  # what reading one may end in
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    OSError, EOFError, LookupError, OverflowError, RuntimeError, ValueError,
)  # fmt: skip
NUMBERS_ONLY = (
    "Below the line of names (rows count from 0 there, columns from 1) give numbers only, with commas "
    "between them: leave out rows with missing values, and number the classes of a label."
)
HOW_TO_NAME = "Name columns of the first line, by commas: ?y=label."
Arrays = Mapping[str, Array]  # x and y, and of npz perhaps x_test and y_test


class Asked(NamedTuple):
    """How the file is to be understood."""

    media: str
    y: list[str]
    """The columns that are targets."""
    one_hot: bool
    test_rows: int
    most_bytes: int
    """Of the arrays as float64."""


def keep(request: Message) -> Message:
    """Read the file at `path`, write its arrays beside it, and say what they are."""
    told = dict(request.header)
    path = Path(told.pop("path"))
    asked = Asked(**told)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what numpy warns of is refused below
        arrays = READERS[asked.media](path, asked)
    _check(arrays, asked)
    path.unlink()
    digest = hashlib.sha256()
    for (split, part), array in _split(arrays, asked).items():
        target = file_of(path.parent, split, part)  # type: ignore[arg-type]
        np.save(target, np.ascontiguousarray(array, np.float64), allow_pickle=False)
        digest.update(target.name.encode() + hashlib.sha256(target.read_bytes()).digest())
    written = sum(file.stat().st_size for file in path.parent.iterdir())
    return Message({"splits": dict(splits_of(path.parent)), "digest": digest.hexdigest(), "bytes": written})


def _split(arrays: Arrays, asked: Asked) -> dict[tuple[str, str], Array]:
    """The arrays by split and part; one-hot targets and the last rows as test split, if that was asked."""
    named = {("test" if "_" in name else "train", name[0]): array for name, array in arrays.items()}
    if asked.one_hot:
        targets = [key for key in named if key[1] == "y"]
        named.update(zip(targets, _one_hot([named[key] for key in targets]), strict=True))
    if asked.test_rows:
        for part in [part for split, part in named if split == "train"]:
            named["test", part] = named["train", part][-asked.test_rows :]
            named["train", part] = named["train", part][: -asked.test_rows]
    return named


def _one_hot(labels: list[Array]) -> list[Array]:
    """Rows with 1 - 1/k at the label's place among all k labels, in order, and -1/k elsewhere."""
    flat = np.concatenate([each.ravel() for each in labels])
    classes, places = np.unique(flat, return_inverse=True)
    k = len(classes)
    if k > MOST_CLASSES or any(each.size != len(each) for each in labels):
        said = f"one_hot takes one column of at most {MOST_CLASSES} labels, this has {k}"
        raise SpecError(said, pointer="one_hot", hint="leave out one_hot to have the targets as they are")
    ends = np.cumsum([len(each) for each in labels])[:-1]
    return [np.eye(k)[part] - 1 / k for part in np.split(places, ends)]


def _check(arrays: Arrays, asked: Asked) -> None:
    for name, array in arrays.items():
        _check_array(name, array, asked)
    for suffix in ("", "_test"):
        x, y = arrays.get(f"x{suffix}"), arrays.get(f"y{suffix}")
        if x is not None and y is not None and len(x) != len(y):
            raise _wrong(f"x{suffix} has {len(x)} rows, y{suffix} has {len(y)}", "Give each input a target.")
    if asked.one_hot and "y" not in arrays:
        raise SpecError("there are no labels for one_hot", pointer="one_hot", hint=HOW_TO_NAME)
    if asked.test_rows >= len(arrays["x"]):
        said = f"there are {len(arrays['x'])} rows, and one at least is for training"
        raise SpecError(said, pointer="test_rows", hint="name fewer")
    if asked.test_rows and "x_test" in arrays:
        said = "the file has a test split already"
        raise SpecError(said, pointer="test_rows", hint="leave out test_rows")


def _check_array(name: str, array: Array, asked: Asked) -> None:
    if array.dtype.kind not in "iuf":
        raise _wrong(f"{name} is of type {array.dtype}", "Give numbers only.")
    if array.ndim < 2 or array.size == 0:
        said = f"{name} has the shape {array.shape}; inputs and targets have a row each, (n, d)"
        raise _wrong(said, "Reshape a single column with array[:, None].")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        said = f"{name}{[*map(int, bad[0])]} is {array[tuple(bad[0])]}, and {len(bad)} are not finite"
        raise _wrong(said, "Leave out rows with missing values.")
    if 8 * array.size > asked.most_bytes:
        raise _too_large(8 * array.size, asked)


def _wrong(said: str, hint: str) -> SpecError:
    return SpecError(said, pointer="", hint=hint)


def _too_large(found: int, asked: Asked) -> ResourceError:
    what = {"bytes": found}
    return ResourceError("the data set is too large", estimate=what, limit={"bytes": asked.most_bytes})


def _read_csv(path: Path, asked: Asked) -> Arrays:
    """A line of names, then a row of numbers a line."""
    with path.open(encoding="utf-8-sig", errors="strict") as file:
        try:
            names = _names(file.readline())
            table = np.loadtxt(file, delimiter=",", comments=None, ndmin=2, quotechar='"')
        except UnicodeDecodeError:
            raise _wrong("this is no text in UTF-8", "Save the table as CSV in UTF-8.") from None
        except ValueError as error:  # numpy says the row and the column
            reason = str(error).partition("; use `usecols`")[0]  # advice for who calls numpy
            said = f"this is no table of numbers: {reason[:200]}"
            raise _wrong(said, NUMBERS_ONLY) from None
    if not table.size:
        raise _wrong("the table has no rows", "Give a row of numbers below the line of names.")
    if table.shape[1] != len(names):
        said = f"the first line has {len(names)} names, the rows have {table.shape[1]} numbers"
        raise _wrong(said, "Begin with a line that names each column.")
    return _by_name({name: table[:, [place]] for place, name in enumerate(names)}, asked)


def _names(line: str) -> list[str]:
    """The names of columns."""
    names = next(csv.reader([line]), [])
    if names and all(_is_number(name) for name in names):
        raise _wrong("the first line has numbers", "Begin with a line that names each column.")
    if len(set(names)) < len(names):
        raise _wrong("two columns have one name", "Give each column a name of its own.")
    return [name.strip() for name in names]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _by_name(columns: Arrays, asked: Asked) -> Arrays:
    """Inputs and targets of named columns (n, d): what is no target is an input."""
    missing = [name for name in asked.y if name not in columns]
    inputs = [name for name in columns if name not in asked.y]
    if missing or not inputs:
        said = f"there is no column {', '.join(missing)}" if missing else "no column is left for the inputs"
        names = ", ".join(list(columns)[:20])
        raise SpecError(said, pointer="y", hint=f"The columns are {names}." if columns else HOW_TO_NAME)
    parts = {"x": inputs, "y": asked.y}
    return {part: _joined([columns[name] for name in names]) for part, names in parts.items() if names}


def _joined(arrays: list[Array]) -> Array:
    if len(arrays) == 1:
        return arrays[0]  # which may be images
    if any(array.ndim > 2 for array in arrays):
        raise _wrong("columns of tensors stand alone", "Give one column for the inputs, named x.")
    return np.concatenate(arrays, axis=1)


def _read_npz(path: Path, asked: Asked) -> Arrays:
    """Arrays x and perhaps y, x_test, y_test."""
    known = ("x", "y", "x_test", "y_test")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            strange = [name for name in members if name not in known]
            if strange or "x" not in members or asked.y:
                has = ", ".join(name[:40] for name in list(members)[:20]) or "nothing"
                raise _wrong(f"the archive has {has}", f"It has x and perhaps {', '.join(known[1:])}.")
            return {name: _member(archive, info, asked) for name, info in members.items()}
    except BAD_ARCHIVE as error:
        said = f"this is no .npz file: {str(error)[:200]}"
        raise _wrong(said, "Write it with numpy.savez(path, x=x, y=y).") from None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, asked: Asked) -> Array:
    """One array; no more of it is unpacked than may be kept."""
    with archive.open(info) as member:
        data = member.read(asked.most_bytes + 1)
    if len(data) > asked.most_bytes:
        raise _too_large(max(info.file_size, len(data)), asked)
    try:
        array: Array = read_npy(data)
    except ValueError as error:
        raise _wrong(f"{info.filename[:40]} is no array: {error}", "Write numbers.") from None
    return array


def _read_arrow(path: Path, asked: Asked) -> Arrays:
    """Columns of numbers, of lists of equal length, or of tensors."""
    try:
        import pyarrow as pa
    except ImportError:
        hint = "the operator can install it: pip install 'ntkengine[arrow]'; CSV and npz are read anyway"
        raise UnsupportedError("Arrow is not installed here", pointer="", hint=hint) from None
    try:
        with pa.memory_map(str(path)) as file:
            opened = pa.ipc.open_stream if asked.media == ARROW else pa.ipc.open_file
            table = opened(file).read_all()
            columns = {name: _arrow_column(pa, name, table[name]) for name in table.column_names}
    except (pa.ArrowException, ValueError, KeyError) as error:
        hint = "Write it with pyarrow.ipc.new_stream, columns of numbers or of lists of equal length."
        raise _wrong(f"this cannot be read as Arrow: {str(error)[:200]}", hint) from None
    return _by_name(columns, asked._replace(y=asked.y or [name for name in columns if name == "y"]))


def _arrow_column(pa: Any, name: str, column: Any) -> Array:
    """The column as (n, d), or (n, ...) where it has tensors."""
    values = pa.concat_arrays(column.chunks) if column.num_chunks else column.combine_chunks()
    if isinstance(column.type, pa.FixedShapeTensorType):
        tensors: Array = values.to_numpy_ndarray()
        return tensors
    shape = [len(column)]
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        _refuse_nulls(name, values)
        lengths = np.unique(values.value_lengths().to_numpy(zero_copy_only=False))
        if len(lengths) != 1:
            raise _wrong(
                f"the lists of column {name[:40]} differ in length", "Give each row as many numbers."
            )
        shape.append(int(lengths[0]))
        values = values.flatten()
    _refuse_nulls(name, values)
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(*shape, *[1] * (len(shape) == 1))


def _refuse_nulls(name: str, values: Any) -> None:
    if values.null_count:
        raise _wrong(f"the column {name[:40]} has {values.null_count} nulls", "Leave out such rows.")


READERS = {CSV: _read_csv, NPZ: _read_npz, ARROW: _read_arrow, ARROW_FILE: _read_arrow}
