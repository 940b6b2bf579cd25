"""Types of ONNX tensors that have a counterpart here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ntkengine.errors import SpecError, UnsupportedError

if TYPE_CHECKING:
    from onnx import TensorProto

FLOAT = 1

# By TensorProto.DataType.
DTYPES = {
    FLOAT: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
}


def dtype_of(number: int, what: str) -> torch.dtype:
    """The torch type of an ONNX type."""
    if number not in DTYPES:
        raise UnsupportedError(
            f"{what} has ONNX type {number}, for which there is no rule",
            pointer="/graph",
            hint=f"known are {', '.join(str(each).removeprefix('torch.') for each in DTYPES.values())}",
        )
    return DTYPES[number]


def tensor_of(proto: TensorProto) -> Tensor:
    """The tensor, whose size must be what its dims say."""
    from onnx.numpy_helper import to_array

    dtype_of(proto.data_type, f"tensor {proto.name}")
    try:
        return torch.from_numpy(to_array(proto).copy())
    except (ValueError, TypeError) as error:
        raise SpecError(
            f"tensor {proto.name}: dims {list(proto.dims)} do not fit its data: {error}",
            pointer="/graph/initializer",
        ) from error
