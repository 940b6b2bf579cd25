"""One node of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkengine.errors import UnsupportedError

PRECISION = "type of float32"  # a tensor that says which type the file's float32 has become


@dataclass(frozen=True, kw_only=True)
class Node:
    """An operator with its attributes, and names of what it reads and writes; "" is an input not given."""

    op: str
    label: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default."""
        return self.attributes.get(name, default)

    def number(self, name: str, default: float) -> float:
        """A real attribute, or the default, which like all of them has single precision."""
        return float(self.attributes.get(name, np.float32(default)))

    def unsupported(self, message: str, hint: str | None = None) -> UnsupportedError:
        return UnsupportedError(f"node {self.label} ({self.op}): {message}", pointer="/graph/node", hint=hint)
