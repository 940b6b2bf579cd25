"""The NTK layer by layer, from inputs and output derivatives: no Jacobian of the network is formed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ntkengine.blocks import NARROWEST, Contraction, Sums
from ntkengine.empirical.implementation import Cost, Implementation, LayerWork, Work, own_name, scores_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.empirical.forms import LayerShare
    from ntkengine.empirical.subject import Names, Subject

PASS = 2**25  # bytes of a pass backward: what the allocator gives again without asking the system, measured


@dataclass(frozen=True)
class Parts:
    """Of the rows of x: what contraction needs of tensors with a known form, and Jacobians of others."""

    formed: dict[Names, LayerShare]
    others: dict[str, Tensor]


class StructuredDerivatives(Implementation):
    """Each layer's share from what its tensors read and the derivatives of what they give (Novak et al.,
    "Fast finite width NTK", 2022): by pairs of positions, or by gradients that are products of matrices,
    whichever takes less. That of layers without a known form is from Jacobians of their tensors."""

    name: ClassVar[str] = "structured_derivatives"
    overhead: ClassVar[float] = 4e6

    def supports(self, layers: Sequence[LayerWork]) -> bool:
        return any(layer.sums for layer in layers)

    def cost(self, layers: Sequence[LayerWork], work: Work) -> Cost:
        rows, pairs = work.n1 + work.n2, work.n1 * work.n2 * work.outputs
        flops = 2.0 * sum(layer.multiplications for layer in layers) * (1 + work.k) * rows
        for layer in layers:
            sums = layer.sums
            if sums is None:
                flops += 2.0 * layer.numbers * (2 * work.k * rows + pairs)
            else:
                flops += 2.0 * sums.cost(work.n1, work.n2, work.k, work.outputs)
        return Cost(
            flops, 2 * (kept_bytes(layers, work) + strips_bytes(layers, work)) + pass_bytes(layers, work, 1)
        )

    def methods(self, layers: Sequence[LayerWork]) -> dict[str, str]:
        without = {layer.path for layer in layers if layer.sums is None}  # for some of its tensors
        return {layer.path: "jacobian" if layer.path in without else "structured" for layer in layers}

    def derivatives(self, subject: Subject, x: Any, work: Work) -> Parts:
        """Those of layers with a known form, and the other Jacobians."""
        from ntkengine.empirical.subject import length

        rows, outputs = at_a_time(subject.layers, work, length(x))
        return Parts(
            subject.derivatives(x, work, rows, outputs), subject.jacobians(x, subject.without_form())
        )

    def contract(
        self, subject: Subject, left: Any, right: Any, contraction: Contraction, weights: Mapping[str, float]
    ) -> Iterator[Tensor]:
        for names, share in left.formed.items():  # in an order that every process has, for the last bits
            shares = {own_name(name): weights[name] for name in names if name in weights}
            if shares and names in right.formed:
                module, form = subject.forms[names]
                yield form.block(module, share, right.formed[names], contraction, shares)
        for name, jacobian in left.others.items():
            if name in weights:
                yield weights[name] * contraction.product(jacobian, right.others[name])

    def square(
        self, subject: Subject, x: Any, work: Work, contraction: Contraction, weights: Mapping[str, float]
    ) -> Iterator[Tensor]:
        """A trace is a sum over outputs: where a pass takes all rows, what it gives is used and dropped."""
        from ntkengine.empirical.subject import length

        rows = length(x)
        outputs = outputs_within(subject.layers, work, pass_room(subject.layers, work, rows) // rows)
        if contraction.out or not outputs:
            yield from super().square(subject, x, work, contraction, weights)
            return
        for each in subject.passes(x, rows, outputs):
            side = Parts({each.names: each.share(work)}, {})
            yield from self.contract(subject, side, side, contraction, weights)
        rest = Parts({}, subject.jacobians(x, subject.without_form()))
        yield from self.contract(subject, rest, rest, contraction, weights)


def kept_bytes(layers: Sequence[LayerWork], work: Work) -> int:
    """What is kept of one input for all outputs."""

    def numbers(layer: LayerWork) -> int:
        sums = layer.sums
        if sums is None or layer.keeps_gradients(work):
            return work.k * layer.numbers
        return sums.positions * (sums.fan_in + work.k * sums.width)

    return work.itemsize * sum(map(numbers, layers))


def strips_bytes(layers: Sequence[LayerWork], work: Work) -> int:
    """What gradients in the narrowest strips take of one input, for all outputs."""
    widths = (layer.sums.width for layer in layers if layer.sums and layer.in_strips(work))
    return work.itemsize * work.k * NARROWEST * max(widths, default=0)


def pass_bytes(layers: Sequence[LayerWork], work: Work, outputs: int) -> int:
    """What a pass backward holds of one input, for so many outputs: all that layers read; what they give, as
    recorded and as passed on; derivatives by it for each output, and those of one layer on their way."""
    known: list[Sums] = [layer.sums for layer in layers if layer.sums]
    numbers = sum(each.positions * (each.fan_in + (3 + outputs) * each.width) for each in known)
    return work.itemsize * numbers + scores_bytes(layers, work, outputs)


def pass_room(layers: Sequence[LayerWork], work: Work, rows: int) -> int:
    """Bytes that a pass backward may hold: `PASS`, or what the cost counts for so many rows beside what is
    kept of them, if that is less."""
    return min(PASS, rows * (kept_bytes(layers, work) + pass_bytes(layers, work, 1)))


def outputs_within(layers: Sequence[LayerWork], work: Work, room: int) -> int:
    """How many outputs a pass backward can take if it may hold so many bytes of a row; 0: not one."""
    of_none = pass_bytes(layers, work, 0)
    of_one = max(1, pass_bytes(layers, work, 1) - of_none)
    return max(0, min(work.k if work.batched else 1, (room - of_none) // of_one))


def at_a_time(layers: Sequence[LayerWork], work: Work, rows: int) -> tuple[int, int]:
    """How many of so many rows, and of the outputs, a pass backward takes. Outputs go first: those of one
    row share all that a pass forward holds."""
    room = pass_room(layers, work, rows)
    outputs = max(1, outputs_within(layers, work, room))
    most = max(1, room // max(1, pass_bytes(layers, work, outputs)))
    return -(-rows // -(-rows // most)), outputs  # in passes of equal size
