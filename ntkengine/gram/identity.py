"""What tells a stored result from others: a digest of all that it depends on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def identity(*parts: str | Tensor) -> str:
    """SHA-256 of texts and tensors, in their order; of tensors, the shapes and types count too."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            sha.update(part.encode())
        else:
            values = part.numpy(force=True)
            sha.update(f"{values.shape} {values.dtype}".encode())
            sha.update(np.ascontiguousarray(values).data)
    return sha.hexdigest()
