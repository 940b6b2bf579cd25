"""What of the k x k block of a pair of inputs a kernel keeps. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ntkengine.blocks import Contraction

Outputs = Literal["mean", "trace", "full", "diagonal"]


@dataclass(frozen=True)
class OutputForm:
    """How the block's indices (a, b) are contracted, and whether the result is divided by k."""

    contraction: Contraction
    divide: bool = False

    def shape(self, n1: int, n2: int, k: int) -> tuple[int, ...]:
        """Shape of the kernel."""
        return (n1, n2, *[k] * len(self.contraction.out))

    def pairs(self, k: int) -> int:
        """How many pairs of outputs are computed for a pair of inputs."""
        return self.contraction.pairs(k)


_TRACE = Contraction("a", "a", "")

OUTPUT_FORMS: dict[Outputs, OutputForm] = {
    "mean": OutputForm(_TRACE, divide=True),
    "trace": OutputForm(_TRACE),
    "full": OutputForm(Contraction("a", "b", "ab")),
    "diagonal": OutputForm(Contraction("a", "a", "a")),
}
