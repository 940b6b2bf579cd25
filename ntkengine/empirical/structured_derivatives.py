"""The NTK layer by layer, from inputs and output derivatives: no Jacobian is ever formed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ntkengine.blocks import Contraction, Derivatives
from ntkengine.empirical.implementation import Cost, Implementation, Work, parameter_count, sum_in_place
from ntkengine.layer import Site

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.network import Network


class StructuredDerivatives(Implementation):
    """Each layer's share from its own structured block (Novak et al., "Fast finite width NTK", 2022)."""

    name: ClassVar[str] = "structured_derivatives"
    overhead: ClassVar[float] = 4e6

    def supports(self, site: Site) -> bool:
        return all(leaf.layer.has_structured_block(leaf) for leaf in site.leaves() if leaf.role)

    def cost(self, site: Site, work: Work) -> Cost:
        layers = [
            (leaf.known_size(leaf.in_shape), leaf.known_size(leaf.out_shape))
            for leaf in site.leaves()
            if leaf.role
        ]
        backward = 2.0 * parameter_count(site) * (1 + work.k) * (work.n1 + work.n2)
        blocks = sum(2.0 * (work.n1 * work.n2 * fan_in + work.pairs * width) for fan_in, width in layers)
        held = sum(fan_in + work.k * width for fan_in, width in layers)
        return Cost(backward + blocks, 2 * held * work.itemsize)

    def derivatives(self, network: Network, x: Tensor) -> dict[str, Derivatives]:
        """Inputs and output derivatives of every trained layer, by path."""
        import torch

        seen: dict[str, tuple[Tensor, Tensor]] = {}

        def record(path: str) -> Any:
            def hook(_: Any, args: tuple[Tensor], output: Tensor) -> None:
                seen[path] = (args[0].detach(), output)

            return hook

        hooks = [layer.register_forward_hook(record(path)) for path, layer in network.trained_layers()]
        try:
            with torch.enable_grad():
                y = network(x)
        finally:
            for hook in hooks:
                hook.remove()
        outs = [output for _, output in seen.values()]
        by_output = [torch.autograd.grad(y[:, a].sum(), outs, retain_graph=True) for a in range(y.shape[1])]
        by_layer = zip(*by_output, strict=True)
        return {
            path: Derivatives(h, torch.stack(g, dim=1))
            for (path, (h, _)), g in zip(seen.items(), by_layer, strict=True)
        }

    def contract(
        self, network: Network, left: Any, right: Any, contraction: Contraction, weights: Mapping[str, float]
    ) -> Tensor:
        layers = (
            weights[path]
            * module.site.layer.structured_block(module.site, left[path], right[path], contraction)
            for path, module in network.trained_layers()
        )
        return sum_in_place(layers)
