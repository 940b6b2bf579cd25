"""The NTK from whole Jacobians: right for any network, heavy in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ntkengine.blocks import Contraction
from ntkengine.empirical.implementation import Cost, Implementation, LayerWork, Work, scores_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.empirical.subject import Subject


class JacobianContraction(Implementation):
    """`Theta[i, j, a, b] = sum_p J[i, a, p] J'[j, b, p]`, tensor by tensor."""

    name: ClassVar[str] = "jacobian_contraction"
    overhead: ClassVar[float] = 2e7

    def supports(self, layers: Sequence[LayerWork]) -> bool:
        return True

    def cost(self, layers: Sequence[LayerWork], work: Work) -> Cost:
        count = sum(layer.numbers for layer in layers)
        passes = sum(layer.multiplications for layer in layers)
        rows = work.n1 + work.n2
        both_ways = 2.0 * passes * (1 + 2 * work.k) * rows
        pairs = work.n1 * work.n2 * work.outputs
        jacobians = 2 * work.k * count * work.itemsize
        return Cost(both_ways + 2.0 * count * pairs, jacobians + scores_bytes(layers, work, work.k))

    def methods(self, layers: Sequence[LayerWork]) -> dict[str, str]:
        return {layer.path: "jacobian" for layer in layers}

    def derivatives(self, subject: Subject, x: Any, work: Work) -> dict[str, Tensor]:
        """Jacobians `df_a / dp` by name, (n, k, p)."""
        return subject.jacobians(x, subject.tensors)

    def contract(
        self, subject: Subject, left: Any, right: Any, contraction: Contraction, weights: Mapping[str, float]
    ) -> Iterator[Tensor]:
        for name, weight in weights.items():
            yield weight * contraction.product(left[name], right[name])
