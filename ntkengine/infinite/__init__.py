"""Infinite-width kernels: a fold of the layers' rules."""

from ntkengine.infinite.fold import InfiniteKernel, infinite_kernel
from ntkengine.infinite.scaling import WidthScaling

__all__ = ["InfiniteKernel", "WidthScaling", "infinite_kernel"]
