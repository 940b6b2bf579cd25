"""How branches become one: the finite map and the rule of a sum, a product and a concatenation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ntkengine.errors import SpecError, pointer_of
from ntkengine.features import SinceFork
from ntkengine.first_layer import Precision
from ntkengine.graded import Size
from ntkengine.joint import Near, multiplied_determinant, summed_determinant
from ntkengine.layer import Site
from ntkengine.state import KernelState, less_exact

if TYPE_CHECKING:
    from torch import Tensor

Widths = list[int | None]


class Merge(ABC):
    """One way to merge."""

    name: ClassVar[str]

    @abstractmethod
    def width(self, widths: Widths) -> Size | None:
        """The number of features of the merged branches; None where theirs do not fit together."""

    @abstractmethod
    def finite(self, branches: list[Tensor]) -> Tensor:
        """The finite map, on outputs (n, *axes, C) of the branches."""

    @abstractmethod
    def moments(self, site: Site, fork: KernelState, ends: list[KernelState]) -> KernelState:
        """The state after the merge, from that before the branches and those at their ends.

        Raises:
            UnsupportedError: the branches are correlated.
        """


def same_width(widths: Widths) -> Size | None:
    """The width that all have; not known where one is not."""
    known = {width for width in widths if width is not None}
    if len(known) > 1:
        return None
    return Size(None if None in widths else known.pop())


def check_uncorrelated(site: Site, ends: list[KernelState], merge: str) -> None:
    """All branches but one must end with weights of their own."""
    correlated = [
        part.path for part, end in zip(site.parts, ends, strict=True) if end.since_fork is not SinceFork.FRESH
    ]
    if len(correlated) > 1:
        raise site.unsupported(
            f"{' and '.join(correlated)} do not end with weights, so that they are correlated, and the "
            f"{merge} has no infinite-width rule",
            "end all branches but one with weights, such as a dense layer, or ask for a Monte-Carlo kernel",
        )


def finest(precisions: list[Precision | None]) -> Precision | None:
    """The precision of most points, which serves all branches."""
    known = [each for each in precisions if each is not None]
    return max(known, key=lambda each: each.points, default=None)


def together(fork: KernelState, ends: list[KernelState]) -> KernelState:
    """What the merged state has of each of the branches, whatever the merge."""
    import torch

    near = [end.near for end in ends if end.near is not None]
    return replace(
        ends[0],
        inputs=None,
        cumulants=None,
        gaussian=False,
        det=None,
        since_fork=SinceFork.of_all([end.since_fork for end in ends], fork.since_fork),
        precision=finest([end.precision for end in ends]),
        near=Near(*(torch.cat(each) for each in zip(*near, strict=True))) if near else None,
        method=less_exact(*(end.method for end in ends)),
        nngp_error=reduce(np.maximum, (end.nngp_error for end in ends)),
        ntk_error=reduce(np.maximum, (end.ntk_error for end in ends)),
    )


def weighted(state: KernelState, share: float) -> KernelState:
    """The state with every moment times a constant."""
    det = None if state.det is None else state.det * share**2
    return replace(state, nngp=state.nngp.scaled(share), ntk=state.ntk.scaled(share), det=det)


def added(a: KernelState, b: KernelState) -> KernelState:
    """The moments of the sum of uncorrelated features: those of the higher power of N."""
    nngp = a.nngp + b.nngp
    det = None
    if a.det is not None and b.det is not None:
        leading = [s for s in (a, b) if s.nngp.power == nngp.power and not s.nngp.vanishes]
        both = summed_determinant(a.joints()[0], b.joints()[0])
        det = both if len(leading) == 2 else (leading or [a])[0].det
    return replace(a, nngp=nngp, ntk=a.ntk + b.ntk, det=det)


def multiplied(a: KernelState, b: KernelState) -> KernelState:
    """The moments of the product of uncorrelated features."""
    ntk = a.ntk.times(b.nngp) + a.nngp.times(b.ntk)
    det = None
    if a.det is not None and b.det is not None:
        det = multiplied_determinant(a.joints()[0], b.joints()[0])
    return replace(a, nngp=a.nngp.times(b.nngp), ntk=ntk, det=det)


class Sum(Merge):
    """`y = sum_b y_b`: second moments of uncorrelated branches add up."""

    name: ClassVar[str] = "sum"

    def width(self, widths: Widths) -> Size | None:
        return same_width(widths)

    def finite(self, branches: list[Tensor]) -> Tensor:
        return sum(branches[1:], start=branches[0])

    def moments(self, site: Site, fork: KernelState, ends: list[KernelState]) -> KernelState:
        check_uncorrelated(site, ends, self.name)
        total = reduce(added, ends)
        gaussian = all(end.gaussian for end in ends)
        return replace(together(fork, ends), nngp=total.nngp, ntk=total.ntk, det=total.det, gaussian=gaussian)


class Product(Merge):
    """`y = prod_b y_b`: second moments of uncorrelated branches multiply; the NTK obeys the product rule."""

    name: ClassVar[str] = "product"

    def width(self, widths: Widths) -> Size | None:
        return same_width(widths)

    def finite(self, branches: list[Tensor]) -> Tensor:
        return math.prod(branches[1:], start=branches[0])

    def moments(self, site: Site, fork: KernelState, ends: list[KernelState]) -> KernelState:
        check_uncorrelated(site, ends, self.name)
        product = reduce(multiplied, ends)
        merged = replace(together(fork, ends), nngp=product.nngp, ntk=product.ntk, det=product.det)
        # one factor with weights of its own makes the product uncorrelated with all that was before
        fresh = any(end.since_fork is SinceFork.FRESH for end in ends)
        return replace(merged, since_fork=SinceFork.FRESH) if fresh else merged


class Concat(Merge):
    """The features of all branches, one after the other: moments, being means over features, are averaged."""

    name: ClassVar[str] = "concat"

    def width(self, widths: Widths) -> Size | None:
        known = [width for width in widths if width is not None]
        return Size(sum(known) if len(known) == len(widths) else None)

    def finite(self, branches: list[Tensor]) -> Tensor:
        import torch

        return torch.cat(branches, dim=-1)

    def moments(self, site: Site, fork: KernelState, ends: list[KernelState]) -> KernelState:
        widths = [part.out_shape[-1] for part in site.parts]
        known = [width for width in widths if width is not None]
        if len(known) < len(widths):
            raise SpecError(
                f"{site.path}: the kernel of a concatenation depends on the widths of its branches",
                pointer=pointer_of(site.path),
                hint='give "width" in the last layer of each branch',
            )
        shares = [width / sum(known) for width in known]
        total = reduce(added, [weighted(end, share) for end, share in zip(ends, shares, strict=True)])
        size = Size(sum(known)) if all(end.size.value is not None for end in ends) else Size(None, len(ends))
        return replace(together(fork, ends), nngp=total.nngp, ntk=total.ntk, det=total.det, size=size)


MERGES: Mapping[str, Merge] = {merge.name: merge for merge in (Sum(), Product(), Concat())}
