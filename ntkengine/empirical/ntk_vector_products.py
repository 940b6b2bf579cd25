"""The NTK column by column, by products with it: neither the Jacobian nor any layer's form is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ntkengine.blocks import Contraction
from ntkengine.empirical.implementation import Cost, Implementation, LayerWork, Work

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.empirical.subject import Subject


class NTKVectorProducts(Implementation):
    """`Theta[:, j, :, b] = J (J'^T e_jb)`: a gradient, and a derivative along it, for each column (Novak et
    al., "Fast finite width NTK", 2022). It holds least, and pays for many outputs without known forms."""

    name: ClassVar[str] = "ntk_vector_products"
    overhead: ClassVar[float] = 2e7

    def supports(self, layers: Sequence[LayerWork]) -> bool:
        return True

    def cost(self, layers: Sequence[LayerWork], work: Work) -> Cost:
        forward = 2.0 * sum(layer.multiplications for layer in layers)
        columns = work.n2 * work.k
        held = sum(_values(layer) for layer in layers)
        flops = columns * (3 * forward + 2 * work.n1 * forward + self.overhead)
        return Cost(flops, int(4 * (held + work.k) * work.itemsize))

    def methods(self, layers: Sequence[LayerWork]) -> dict[str, str]:
        return {layer.path: "products" for layer in layers}

    def derivatives(self, subject: Subject, x: Any, work: Work) -> Any:
        """The inputs themselves: nothing is known before the other side is."""
        return x

    def contract(
        self, subject: Subject, left: Any, right: Any, contraction: Contraction, weights: Mapping[str, float]
    ) -> Iterator[Tensor]:
        import torch

        from ntkengine.empirical.subject import length

        columns = [self._column(subject, left, right, j, weights) for j in range(length(right))]
        whole = torch.stack(columns, dim=1)  # (n1, n2, k, k)
        yield torch.einsum(f"ij{contraction.left}{contraction.right}->ij{contraction.out}", whole)

    def _column(
        self, subject: Subject, left: Any, right: Any, j: int, weights: Mapping[str, float]
    ) -> Tensor:
        """The blocks of all rows of the left with row j of the right, (n1, k, k)."""
        import torch

        from ntkengine.empirical.jacobian import Jacobian
        from ntkengine.empirical.subject import length, rows_of

        jacobian = Jacobian(subject.module, {name: subject.tensors[name] for name in weights})
        row, n1 = rows_of(right, slice(j, j + 1)), length(left)
        columns = []
        for unit in torch.eye(subject.outputs, dtype=jacobian.dtype):
            gradient = jacobian.pull(row, unit[None], 1)
            along = {name: weights[name] * part for name, part in gradient.items()}
            columns.append(jacobian.push(left, along, n1))
        return torch.stack(columns, dim=-1)


def _values(layer: LayerWork) -> float:
    """Numbers that a pass holds for one input."""
    sums = layer.sums
    return layer.numbers if sums is None else sums.positions * (sums.fan_in + sums.width) + sums.scores
