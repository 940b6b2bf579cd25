"""What every implementation of the empirical NTK answers, and what is derived from it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ntkengine.blocks import Contraction
from ntkengine.layer import Site
from ntkengine.outputs import OutputForm

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.network import Network


@dataclass(frozen=True)
class Work:
    """The shapes of a kernel: n1 x n2 inputs, k outputs, bytes of a number, what is kept of a block."""

    n1: int
    n2: int
    k: int
    itemsize: int
    form: OutputForm

    @property
    def pairs(self) -> int:
        return self.n1 * self.n2 * self.form.pairs(self.k)

    @property
    def result_bytes(self) -> int:
        return math.prod(self.form.shape(self.n1, self.n2, self.k)) * self.itemsize


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
    def supports(self, site: Site) -> bool:
        """Whether every layer of the network has what this needs."""

    @abstractmethod
    def cost(self, site: Site, work: Work) -> Cost:
        """Estimated cost; torch-free."""

    @abstractmethod
    def methods(self, site: Site) -> dict[str, str]:
        """How the share of each layer with weights is computed, by path."""

    @abstractmethod
    def derivatives(self, network: Network, x: Tensor) -> Any:
        """What `contract` needs to know of the inputs x (n, d)."""

    @abstractmethod
    def contract(
        self, network: Network, left: Any, right: Any, contraction: Contraction, weights: Mapping[str, float]
    ) -> Tensor:
        """The block (n1, n2, *outputs) of two sets of rows; each layer's share times its weight."""


def parameter_count(site: Site) -> int:
    """Number of trained numbers of one copy of the network."""
    return sum(math.prod(shape) for leaf in site.leaves() for shape in leaf.layer.shapes(leaf).values())


def jacobians(network: Network, x: Tensor, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Jacobians `df_a / dp` of some tensors by name, (n, k, p)."""
    import torch
    from torch.func import functional_call, jacrev, vmap

    detached = {name: p.detach() for name, p in trained.items()}

    def outputs(params: dict[str, Tensor], row: Tensor) -> Tensor:
        result: Tensor = functional_call(network, params, (row[None],))
        return result[0]

    with torch.no_grad():
        found = vmap(jacrev(outputs), in_dims=(None, 0))(detached, x)
    return {name: jacobian.flatten(2) for name, jacobian in found.items()}


def sum_in_place(blocks: Iterator[Tensor]) -> Tensor:
    """The sum of some blocks, at most two of which exist at a time."""
    total = next(blocks)
    for block in blocks:
        total += block
    return total
