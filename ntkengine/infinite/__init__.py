"""Infinite-width kernels: a fold of the layers' rules."""

from ntkengine.infinite.kernel import InfiniteKernel, infinite_gram, infinite_kernel
from ntkengine.infinite.monte_carlo import MonteCarloKernel, monte_carlo_kernel
from ntkengine.infinite.scaling import WidthScaling

__all__ = [
    "InfiniteKernel",
    "MonteCarloKernel",
    "WidthScaling",
    "infinite_gram",
    "infinite_kernel",
    "monte_carlo_kernel",
]
