"""The NTK from whole Jacobians: right for any network, heavy in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ntkengine.blocks import Contraction
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

    from ntkengine.network import Network


class JacobianContraction(Implementation):
    """`Theta[i, j, a, b] = sum_p J[i, a, p] J'[j, b, p]`, tensor by tensor."""

    name: ClassVar[str] = "jacobian_contraction"
    overhead: ClassVar[float] = 2e7

    def supports(self, site: Site) -> bool:
        return True

    def cost(self, site: Site, work: Work) -> Cost:
        count = parameter_count(site)
        backward = 4.0 * count * work.k * (work.n1 + work.n2)
        return Cost(backward + 2.0 * count * work.pairs, 2 * work.k * count * work.itemsize)

    def methods(self, site: Site) -> dict[str, str]:
        return {leaf.path: "jacobian" for leaf in site.leaves() if leaf.role}

    def derivatives(self, network: Network, x: Tensor) -> dict[str, Tensor]:
        """Jacobians `df_a / dp` by name, (n, k, p)."""
        return jacobians(network, x, network.trained())

    def contract(
        self, network: Network, left: Any, right: Any, contraction: Contraction, weights: Mapping[str, float]
    ) -> Tensor:
        tensors = (weights[name] * contraction.product(left[name], right[name]) for name in left)
        return sum_in_place(tensors)
