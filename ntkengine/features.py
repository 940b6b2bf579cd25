"""What is known of random features beyond their second moments. Torch-free."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from ntkengine.first_layer import Preactivation
from ntkengine.joint import CumulantRule

if TYPE_CHECKING:
    from torch import Tensor


class Cumulants(NamedTuple):
    """Joint cumulants beyond order two: on (x1, x2), and of each row with itself."""

    pair: CumulantRule
    own: CumulantRule

    def scaled(self, on_pairs: tuple[Tensor, Tensor], on_own: tuple[Tensor, Tensor]) -> Cumulants:
        """Those of the features times factors, one for each of the two that a cumulant is of."""

        def times(cumulant: CumulantRule, left: Tensor, right: Tensor) -> CumulantRule:
            return lambda i, j: cumulant(i, j) * left**i * right**j

        return Cumulants(times(self.pair, *on_pairs), times(self.own, *on_own))


class FirstLayer(NamedTuple):
    """Features that are sums over the rows of x1 (n1, d) and x2 (n2, d) with weights of some law."""

    preactivation: Preactivation
    x1: Tensor
    x2: Tensor


class SinceFork(Enum):
    """What became of features since the last fork: whether branches that meet again are correlated."""

    KEPT = "a linear map without weights, at most"
    FRESH = "weights of its own came last: mean 0, uncorrelated with all that was there at the fork"
    LOST = "another function of them, which is correlated with what was there"

    @staticmethod
    def of_all(branches: list[SinceFork], fork: SinceFork) -> SinceFork:
        """That of merged branches, seen from the fork before theirs."""
        if SinceFork.LOST in branches:
            return SinceFork.LOST
        return fork if SinceFork.KEPT in branches else SinceFork.FRESH
