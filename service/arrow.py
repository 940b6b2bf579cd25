"""Arrow, where it is installed: kernels as streams of tensors, tables as Parquet. Loaded when asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from service.encoding import Array, dumps
from service.errors import ServiceError

STREAM = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
HOW = "The operator can install it: pip install 'ntkengine[arrow]'. npz holds the same numbers."


def check_installed() -> None:
    """Refuse what needs Arrow where there is none.

    Raises:
        ServiceError: it is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise ServiceError("unsupported", "Arrow is not installed here.", hint=HOW)


def stream(arrays: Mapping[str, Array], about: Mapping[str, Any]) -> bytes:
    """The bytes of an IPC stream: a row for each row of the arrays, a column of tensors for each array; what
    there is to say of them is JSON in the schema's metadata, `about`.
    """
    check_installed()
    import pyarrow as pa

    columns = {name: _tensors(pa, array) for name, array in arrays.items()}
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    schema = pa.schema(fields, metadata={"about": dumps(about)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(list(columns.values()), schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _tensors(pa: Any, array: Array) -> Any:
    flat = np.ascontiguousarray(array)
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(flat.dtype), flat.shape[1:])
    values = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), int(np.prod(flat.shape[1:])))
    return pa.ExtensionArray.from_storage(kind, values)


def parquet(
    blocks: Iterable[Mapping[str, Array]], names: Mapping[str, str], about: str, sink: Any
) -> Iterator[None]:
    """Write a table to a file object, a row group for each block of columns; yield after each.

    Args:
        names: the columns with their Arrow types.
        about: JSON, kept as the metadata `about` of the file.
    """
    import pyarrow as pa
    from pyarrow import parquet as files

    schema = pa.schema(
        [(name, pa.type_for_alias(kind)) for name, kind in names.items()], metadata={"about": about}
    )
    with files.ParquetWriter(sink, schema) as writer:
        for block in blocks:
            writer.write_table(pa.table(dict(block), schema=schema))
            yield None
    yield None
