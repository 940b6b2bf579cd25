"""The one comparator: how close is close, by dtype, and a message that says where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

RTOL = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}


def numpy_of(value: Any) -> NDArray[Any]:
    return value.numpy(force=True) if isinstance(value, torch.Tensor) else np.asarray(value)


def assert_close(actual: Any, expected: Any, *, rtol: float | None = None) -> None:
    """Every entry within `rtol` of the largest entry of `expected`; by default what the dtype allows."""
    got, want = numpy_of(actual), numpy_of(expected)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    assert np.isfinite(got).all(), "not finite"
    tolerance = (RTOL[got.dtype] if rtol is None else rtol) * float(np.abs(want).max())
    error = np.abs(got - want)
    worst = np.unravel_index(int(error.argmax()), error.shape)
    assert error.max() <= tolerance, (
        f"entry {tuple(map(int, worst))}: {got[worst]!r}, expected {want[worst]!r}; "
        f"error {error.max():.3g} over tolerance {tolerance:.3g}"
    )


def relative_difference(actual: Any, expected: Any) -> float:
    """`|actual - expected| / |expected|` in the Frobenius norm."""
    got, want = numpy_of(actual), numpy_of(expected)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))
