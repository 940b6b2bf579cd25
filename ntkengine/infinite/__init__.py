"""Infinite-width kernels: a fold of the layers' rules."""

from ntkengine.infinite.kernel import InfiniteKernel, infinite_gram, infinite_kernel
from ntkengine.infinite.scaling import WidthScaling

__all__ = ["InfiniteKernel", "WidthScaling", "infinite_gram", "infinite_kernel"]
