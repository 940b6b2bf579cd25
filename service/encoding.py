"""The one place where numbers become text and arrays become bytes.

JSON carries float64 round-trip exactly and never a NaN; messages between processes are a JSON header
followed by the numbers of arrays: nothing that crosses a process boundary can be code.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def dumps(value: Any) -> str:
    """Compact JSON of `value`; numpy arrays and scalars are nested lists and numbers.

    Raises:
        ValueError: for NaN and infinities, which JSON does not have.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def npy(array: Array) -> bytes:
    """The bytes of an `.npy` file with this array."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array, order="C"), allow_pickle=False)
    return buffer.getvalue()


def npz(arrays: Mapping[str, Array], about: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of an `.npz` file with these arrays and, if given, what there is to say of them: JSON in an
    array `about` without axes.
    """
    told = {} if about is None else {"about": np.array(dumps(about))}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, **told)
    return buffer.getvalue()


@dataclass(frozen=True)
class Message:
    """What one process tells another: JSON-able facts and named arrays."""

    header: dict[str, Any]
    arrays: dict[str, Array] = field(default_factory=dict)

    def pack(self) -> bytes:
        """The message as one string of bytes."""
        forms = {name: (array.dtype.str, array.shape) for name, array in self.arrays.items()}
        head = dumps({"header": self.header, "arrays": forms}).encode()
        return b"".join([len(head).to_bytes(8, "big"), head, *(a.tobytes() for a in self.arrays.values())])

    @classmethod
    def unpack(cls, data: bytes) -> Message:
        """The message that `pack` made these bytes of.

        Raises:
            ValueError: an array is not there, or is said to hold objects, which `frombuffer` refuses.
        """
        start = 8 + int.from_bytes(data[:8], "big")
        head = json.loads(data[8:start])
        arrays = {}
        for name, (dtype, shape) in head["arrays"].items():
            there = np.frombuffer(data, dtype, math.prod(shape), start)
            arrays[name] = there.reshape(shape).copy()  # a view of bytes cannot be written to
            start += there.nbytes
        return cls(head["header"], arrays)
