"""The NTK layer by layer, from inputs and output derivatives: no Jacobian of the network is formed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ntkengine.blocks import Contraction, Derivatives
from ntkengine.empirical.implementation import Cost, Implementation, LayerWork, Work

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.empirical.subject import Subject


@dataclass(frozen=True)
class Parts:
    """Of the rows of x: derivatives by path of layers with a known form, Jacobians of other tensors."""

    layers: dict[str, Derivatives]
    tensors: dict[str, Tensor]


class StructuredDerivatives(Implementation):
    """Each layer's share from what its tensors read and the derivatives of what they give (Novak et al.,
    "Fast finite width NTK", 2022); that of layers without a known form from Jacobians of their tensors."""

    name: ClassVar[str] = "structured_derivatives"
    overhead: ClassVar[float] = 4e6

    def supports(self, layers: Sequence[LayerWork]) -> bool:
        return any(layer.sums for layer in layers)

    def cost(self, layers: Sequence[LayerWork], work: Work) -> Cost:
        rows, pairs = work.n1 + work.n2, work.n1 * work.n2 * work.outputs
        flops = 2.0 * sum(layer.multiplications for layer in layers) * (1 + work.k) * rows
        held = 0
        for layer in layers:
            sums = layer.sums
            if sums is None:
                flops += 2.0 * layer.numbers * (2 * work.k * rows + pairs)
                held += work.k * layer.numbers
            else:
                flops += 2.0 * sums.cost(work.n1, work.n2, work.k, work.outputs)
                by_jacobian = work.k * sums.fan_in * sums.width if sums.positions > 1 else 0
                held += sums.positions * (sums.fan_in + work.k * sums.width) + by_jacobian
        return Cost(flops, 2 * held * work.itemsize)

    def methods(self, layers: Sequence[LayerWork]) -> dict[str, str]:
        return {layer.path: "structured" if layer.sums else "jacobian" for layer in layers}

    def derivatives(self, subject: Subject, x: Any) -> Parts:
        """Those of layers with a known form, and the other Jacobians."""
        return Parts(subject.derivatives(x), subject.jacobians(x, subject.without_form()))

    def contract(
        self, subject: Subject, left: Any, right: Any, contraction: Contraction, weights: Mapping[str, float]
    ) -> Iterator[Tensor]:
        for path, (module, form) in subject.forms.items():
            shares = under(path, weights)
            if shares and path in left.layers and path in right.layers:
                yield form.block(module, left.layers[path], right.layers[path], contraction, shares)
        for name in left.tensors.keys() & weights.keys():
            yield weights[name] * contraction.product(left.tensors[name], right.tensors[name])


def under(path: str, weights: Mapping[str, float]) -> dict[str, float]:
    """The weights of one layer's tensors."""
    split = ((name.rpartition("."), weight) for name, weight in weights.items())
    return {tensor: weight for (layer, _, tensor), weight in split if layer == path}
