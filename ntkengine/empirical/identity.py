"""What tells a stored result of a module from others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ntkengine.empirical.subject import Inputs


def digest_of(about: str, module: nn.Module, tensors: Iterable[str], *inputs: Inputs) -> str:
    """SHA-256 of a request: what it is about, the module's layers, tensors and buffers, the names of the
    tensors that count, and the inputs. That is all that a result depends on but for the module's code."""
    from ntkengine.empirical.subject import mapped

    sha = hashlib.sha256(f"{about} {module} {list(tensors)}".encode())

    def note(tensor: Tensor) -> Tensor:
        values = tensor.numpy(force=True)
        sha.update(f"{values.shape} {values.dtype}".encode())
        sha.update(np.ascontiguousarray(values).data)
        return tensor

    for tensor in (*module.parameters(), *module.buffers()):
        note(tensor)
    for each in inputs:
        sha.update(b"inputs")
        mapped(each, note)
    return sha.hexdigest()
