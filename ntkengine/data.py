"""Arrays in specs: numbers, encoded arrays and data sets. Torch-free; data load when needed."""

from __future__ import annotations

import base64
import io
import math
from tokenize import TokenError
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter, WithJsonSchema
from pydantic_core import PydanticCustomError

from ntkengine.datasets import Part, source
from ntkengine.errors import SpecError
from ntkengine.spec import Count, from_jsonable, spec

Array = NDArray[np.float64]

DEEPEST = 16  # levels of nested lists
NAME = r"^[A-Za-z0-9][A-Za-z0-9_~-]{0,95}$"  # of a data set; also of a directory: it leads nowhere else
BAD_HEADER = (LookupError, MemoryError, OverflowError, RecursionError, SyntaxError, TokenError, TypeError)
LISTED = 4096  # arrays up to this many numbers are written to JSON as lists, larger ones encoded


@spec
class Dataset:
    """A data set by its name: its inputs where x is asked for, its targets where y is.

    `digits`: scikit-learn's 8 x 8 digits, 64 pixels between 0 and 1; targets are one-hot rows minus 1/10.
    The last 360 of the 1,797 are the test split. Others are those that were added.
    """

    kind: Literal["dataset"] = "dataset"
    name: Annotated[str, Field(pattern=NAME, examples=["digits"])]
    """Which data set: `digits`, or one that was added."""
    split: Literal["train", "test"] = "train"
    """Which part of it."""
    limit: Count | None = None
    """How many of the first rows; null is all."""

    def shape(self, part: Part) -> tuple[int, ...]:
        """The shape of the array, without loading it."""
        rows, *rest = source(self.name).shape(self.split, part)
        return (rows if self.limit is None else min(rows, self.limit), *rest)

    def load(self, part: Part) -> Array:
        """The array of inputs (rows, ...) or of targets (rows, k)."""
        return np.array(source(self.name).load(self.split, part)[: self.limit])


ArrayValue = Array | Dataset


def wrong(what: str) -> PydanticCustomError:
    """A validation error in those words."""
    return PydanticCustomError("array", "{what}", {"what": what})


def parse(value: Any) -> ArrayValue:
    """An array of finite float64 numbers, or a data set, from its JSON or Python form."""
    if isinstance(value, Dataset):
        return value
    if isinstance(value, dict):
        kind = value.get("kind")
        if kind == "dataset":
            return known(from_jsonable(Dataset, value))
        if kind == "npy":
            return finite(decode_npy(value))
        raise wrong(f'an array is nested lists, or an object of kind "npy" or "dataset"; got kind {kind!r}')
    return finite(numbers(value))


def known(data: Dataset) -> Dataset:
    """The same, if there is such a data set."""
    try:
        source(data.name)
    except SpecError as error:
        raise wrong(f"{error}; {error.hint}") from None
    return data


def numbers(value: Any) -> Any:
    """A numpy array of numbers; ragged, empty or non-numeric input is refused with where it went wrong."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise wrong(f"ragged array: {unequal(value, '') or 'rows need equal length'}") from None
    if array.dtype.kind not in "iuf":
        raise wrong("an array holds numbers of ordinary size only; text, null, true and false are none")
    return array


def unequal(rows: Any, where: str) -> str | None:
    """The first place at which nested lists are no array, in words."""
    if where.count("[") > DEEPEST:
        return f"lists are nested more than {DEEPEST} deep"
    lengths = [len(row) if isinstance(row, list | tuple) else None for row in rows]
    for index, length in enumerate(lengths):
        if length != lengths[0]:
            got, first = ("a number" if n is None else f"{n} entries" for n in (length, lengths[0]))
            return f"entry {where}[{index}] has {got}, entry {where}[0] has {first}"
    inner = (
        unequal(row, f"{where}[{index}]") for index, row in enumerate(rows) if isinstance(row, list | tuple)
    )
    return next((found for found in inner if found), None)


def finite(array: Any) -> Array:
    """The numbers as float64, none of them NaN or infinite."""
    result = np.ascontiguousarray(array, dtype=np.float64)
    if result.size == 0:
        raise wrong("the array is empty")
    bad = np.argwhere(~np.isfinite(result))
    if len(bad):
        where = "".join(f"[{i}]" for i in bad[0])
        raise wrong(f"entry {where} is {result[tuple(bad[0])]}: give finite numbers ({len(bad)} are not)")
    return result


def decode_npy(value: dict[str, Any]) -> Any:
    """The array of `{"kind": "npy", "base64": ...}`."""
    if set(value) != {"kind", "base64"} or not isinstance(value["base64"], str):
        raise wrong('an encoded array is {"kind": "npy", "base64": "..."} and nothing else')
    try:
        return read_npy(base64.b64decode(value["base64"], validate=True))
    except ValueError as error:
        raise wrong(f"base64 does not hold an .npy file of numbers: {error}") from None


def read_npy(raw: bytes) -> Any:
    """The array of an .npy file whose header is believed only as far as there are bytes.

    Raises:
        ValueError: it is none, or holds something else than numbers.
    """
    try:
        return _believed(raw)
    except BAD_HEADER as error:
        raise ValueError(f"its header cannot be read: {error}") from None


MOST_AXES = 32  # no layer takes as many


def _believed(raw: bytes) -> Any:
    file = io.BytesIO(raw)
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"its format version {version} is not read")
    shape, _, dtype = readers[version](file)
    if dtype.kind not in "iuf":
        raise ValueError(f"its entries are of type {dtype}, not numbers")
    if len(shape) > MOST_AXES or not all(0 <= length <= len(raw) for length in shape):
        raise ValueError("its header tells of a shape that no file of this size has")
    if math.prod(shape) * dtype.itemsize != len(raw) - file.tell():
        raise ValueError(f"its header says {shape} of {dtype}, which is not what follows")
    return np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)


def dump(value: ArrayValue) -> Any:
    """The JSON form of an array field."""
    if isinstance(value, Dataset):
        return {"kind": "dataset", "name": value.name, "split": value.split, "limit": value.limit}
    if value.size <= LISTED:
        return value.tolist()
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    return {"kind": "npy", "base64": base64.b64encode(buffer.getvalue()).decode()}


LISTS: dict[str, Any] = {
    "type": "array",
    "items": {},
    "title": "Numbers",
    "description": "Nested lists of finite numbers.",
}
NPY: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["kind", "base64"],
    "properties": {
        "kind": {"type": "string", "const": "npy"},
        "base64": {"type": "string", "description": "A .npy file of numbers, base64-encoded."},
    },
}
NUMBERS_SCHEMA: dict[str, Any] = {"anyOf": [LISTS, NPY]}
# Objects that stand in many places have no title: generators of clients make one class of each title, once.
NAMED = {name: part for name, part in TypeAdapter(Dataset).json_schema().items() if name != "title"}
ARRAY_SCHEMA: dict[str, Any] = {"anyOf": [LISTS, NPY, NAMED]}


def parse_numbers(value: Any) -> Array:
    """An array of numbers; not a data set, whose shape and meaning are another's."""
    array = parse(value)
    if isinstance(array, Dataset):
        raise wrong("numbers are wanted here, not a data set")
    return array


NumbersField = Annotated[
    Any, BeforeValidator(parse_numbers), PlainSerializer(dump), WithJsonSchema(NUMBERS_SCHEMA)
]
"""A field that takes nested lists, numpy arrays and encoded arrays."""

ArrayField = Annotated[Any, BeforeValidator(parse), PlainSerializer(dump), WithJsonSchema(ARRAY_SCHEMA)]
"""A field that takes nested lists, numpy arrays, encoded arrays and data sets, and holds an `ArrayValue`."""


def shape_of(value: ArrayValue, part: Part) -> tuple[int, ...]:
    """The shape of an array field, without loading it."""
    return value.shape(part) if isinstance(value, Dataset) else value.shape


def load(value: ArrayValue, part: Part) -> Array:
    """The array of a field."""
    return value.load(part) if isinstance(value, Dataset) else value


def inputs_shape(value: ArrayValue, pointer: str) -> tuple[int, ...]:
    """The shape of inputs (n, d, ...), checked to have a batch axis and a feature axis."""
    shape = shape_of(value, "x")
    if len(shape) < 2:
        raise SpecError(
            f"inputs have shape (n, d), got {shape}",
            pointer=pointer,
            hint="put each input in a row of its own: [[1.0], [-1.0]] are two inputs of one number",
        )
    return shape
