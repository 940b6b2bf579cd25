"""The NTK layer by layer, from inputs and output derivatives: no Jacobian of the network is formed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ntkengine.blocks import Contraction, Derivatives
from ntkengine.empirical.implementation import (
    Cost,
    Implementation,
    Work,
    jacobians,
    parameter_count,
    sum_in_place,
)
from ntkengine.layer import Site

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.network import LayerModule, Network


@dataclass(frozen=True)
class Parts:
    """Of the rows of x: derivatives by path of layers with structured blocks, Jacobians of other tensors."""

    layers: dict[str, Derivatives]
    tensors: dict[str, Tensor]


class StructuredDerivatives(Implementation):
    """Each layer's share from its own structured block (Novak et al., "Fast finite width NTK", 2022); that of
    layers which have none, such as attention, from the Jacobians of their tensors."""

    name: ClassVar[str] = "structured_derivatives"
    overhead: ClassVar[float] = 4e6

    def supports(self, site: Site) -> bool:
        return any(leaf.layer.sums(leaf) for leaf in site.leaves() if leaf.role)

    def cost(self, site: Site, work: Work) -> Cost:
        outputs, rows = work.form.pairs(work.k), work.n1 + work.n2
        flops = 2.0 * multiplications(site) * (1 + work.k) * rows
        held = 0
        for leaf in site.leaves():
            sums, numbers = leaf.layer.sums(leaf), tensor_count(leaf)
            if sums is None:
                flops += 2.0 * numbers * (2 * work.k * rows + work.n1 * work.n2 * outputs)
                held += work.k * numbers
            else:
                flops += 2.0 * sums.cost(work.n1, work.n2, work.k, outputs)
                by_jacobian = work.k * sums.fan_in * sums.width if sums.positions > 1 else 0
                held += sums.positions * (sums.fan_in + work.k * sums.width) + by_jacobian
        return Cost(flops, 2 * held * work.itemsize)

    def methods(self, site: Site) -> dict[str, str]:
        return {
            leaf.path: "structured" if leaf.layer.sums(leaf) else "jacobian"
            for leaf in site.leaves()
            if leaf.role
        }

    def derivatives(self, network: Network, x: Tensor) -> Parts:
        """Inputs and output derivatives of every layer with a structured block, and the other Jacobians."""
        import torch

        structured = dict(blocks(network))
        seen: dict[str, tuple[Tensor, Tensor]] = {}

        def record(path: str) -> Any:
            def hook(_: Any, args: tuple[Tensor], output: Tensor) -> None:
                seen[path] = (args[0].detach(), output)

            return hook

        hooks = [layer.register_forward_hook(record(path)) for path, layer in structured.items()]
        try:
            with torch.enable_grad():
                y = network(x)
        finally:
            for hook in hooks:
                hook.remove()
        outs = [output for _, output in seen.values()]
        by_output = [torch.autograd.grad(y[:, a].sum(), outs, retain_graph=True) for a in range(y.shape[1])]
        by_layer = zip(*by_output, strict=True)
        others = {n: p for n, p in network.trained().items() if n.rpartition(".")[0] not in structured}
        layers = {
            path: Derivatives(h, torch.stack(g, dim=1))
            for (path, (h, _)), g in zip(seen.items(), by_layer, strict=True)
        }
        return Parts(layers, jacobians(network, x, others) if others else {})

    def contract(
        self, network: Network, left: Any, right: Any, contraction: Contraction, weights: Mapping[str, float]
    ) -> Tensor:
        layers = (
            module.site.layer.structured_block(
                module.site, left.layers[path], right.layers[path], contraction, under(path, weights)
            )
            for path, module in blocks(network)
        )
        tensors = (
            weights[name] * contraction.product(left.tensors[name], right.tensors[name])
            for name in left.tensors
        )
        return sum_in_place(each for group in (layers, tensors) for each in group)


def blocks(network: Network) -> list[tuple[str, LayerModule]]:
    """The trained layers with structured blocks, by path."""
    return [
        (path, module) for path, module in network.trained_layers() if module.site.layer.sums(module.site)
    ]


def under(path: str, weights: Mapping[str, float]) -> dict[str, float]:
    """The weights of one layer's tensors."""
    split = ((name.rpartition("."), weight) for name, weight in weights.items())
    return {tensor: weight for (layer, _, tensor), weight in split if layer == path}


def tensor_count(site: Site) -> int:
    """Number of trained numbers of one layer."""
    return parameter_count(site) if site.role else 0


def multiplications(site: Site) -> float:
    """Of a forward pass on one input."""
    total = 0.0
    for leaf in site.leaves():
        sums = leaf.layer.sums(leaf)
        total += tensor_count(leaf) if sums is None else sums.positions * sums.fan_in * sums.width
    return total
