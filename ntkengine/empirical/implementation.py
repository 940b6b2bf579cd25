"""What every implementation of the empirical NTK answers, and what choosing one needs. Torch-free."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ntkengine.blocks import Contraction, Sums
from ntkengine.layer import Site
from ntkengine.outputs import OutputForm

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.empirical.subject import Subject


@dataclass(frozen=True)
class Work:
    """The shapes of a kernel: n1 x n2 inputs, k outputs, bytes of a number, what of a block is kept; and
    whether backward passes of several outputs can go as one."""

    n1: int
    n2: int
    k: int
    itemsize: int
    form: OutputForm
    symmetric: bool = False
    batched: bool = True

    @property
    def outputs(self) -> int:
        """Pairs of outputs for a pair of inputs."""
        return self.form.pairs(self.k)

    @property
    def result_bytes(self) -> int:
        return math.prod(self.form.shape(self.n1, self.n2, self.k)) * self.itemsize


@dataclass(frozen=True)
class LayerWork:
    """Trained tensors of a layer: how many numbers, and what they do, if that is known."""

    path: str
    numbers: int
    sums: Sums | None

    def keeps_gradients(self, work: Work) -> bool:
        """Whether gradients of its weights are kept, not what they are made of."""
        sums = self.sums
        return sums is not None and sums.keeps_gradients(work.n1, work.n2, work.k, work.outputs)

    def in_strips(self, work: Work) -> bool:
        """Whether gradients of its weights are made of what is kept, some at a time."""
        sums = self.sums
        pay = sums is not None and sums.gradients_pay(work.n1, work.n2, work.k, work.outputs)
        return pay and not self.keeps_gradients(work)

    @property
    def multiplications(self) -> float:
        """Of a forward pass on one input."""
        sums = self.sums
        return float(self.numbers if sums is None else sums.positions * sums.fan_in * sums.width)


def layers_of(site: Site) -> tuple[LayerWork, ...]:
    """What the linear maps of a placed model do, layer by layer."""
    return tuple(
        LayerWork(
            leaf.path, sum(math.prod(leaf.layer.shapes(leaf)[name]) for name in each.tensors), each.sums
        )
        for leaf in site.leaves()
        for each in leaf.layer.linear_maps(leaf)
    )


def scores_bytes(layers: Sequence[LayerWork], work: Work, outputs: int) -> int:
    """What scores take of one input in a pass backward for so many outputs: they become weights in three
    steps, there and back."""
    return work.itemsize * 3 * (1 + outputs) * sum(layer.sums.scores for layer in layers if layer.sums)


def layer_of(tensor: str) -> str:
    """The path of the layer that holds a tensor."""
    return tensor.rpartition(".")[0]


def own_name(tensor: str) -> str:
    """The name of a tensor in its layer."""
    return tensor.rpartition(".")[2]


def parameter_count(site: Site) -> int:
    """Number of trained numbers of one copy of the network."""
    return sum(layer.numbers for layer in layers_of(site))


@dataclass(frozen=True)
class Cost:
    """Estimates: total work, and bytes held for one row of x1 or x2."""

    flops: float
    bytes_per_row: int


class Implementation(ABC):
    """A way to the NTK in two steps: derivatives of the rows of x, and their contraction for a block."""

    name: ClassVar[str]
    overhead: ClassVar[float]  # of a call, in flops' worth of time: what decides where the work is small

    @abstractmethod
    def supports(self, layers: Sequence[LayerWork]) -> bool:
        """Whether it is more than another one under its name."""

    @abstractmethod
    def cost(self, layers: Sequence[LayerWork], work: Work) -> Cost:
        """Estimated cost."""

    @abstractmethod
    def methods(self, layers: Sequence[LayerWork]) -> dict[str, str]:
        """How the share of each layer is computed, by path."""

    @abstractmethod
    def derivatives(self, subject: Subject, x: Any, work: Work) -> Any:
        """What `contract` needs to know of some inputs, of a kernel of those shapes in all."""

    @abstractmethod
    def contract(
        self, subject: Subject, left: Any, right: Any, contraction: Contraction, weights: Mapping[str, float]
    ) -> Iterator[Tensor]:
        """Shares whose sum is a block (n1, n2, *outputs) of two sets of rows: of the tensors with a weight,
        each times it."""

    def square(
        self, subject: Subject, x: Any, work: Work, contraction: Contraction, weights: Mapping[str, float]
    ) -> Iterator[Tensor]:
        """The same of a kernel of all rows of x with themselves in one block."""
        side = self.derivatives(subject, x, work)
        return self.contract(subject, side, side, contraction, weights)
