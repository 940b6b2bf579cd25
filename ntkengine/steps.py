"""What layers do to a pair of inputs, apart from all other pairs: notes that rules take of themselves, and
these on many pairs at a time. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ntkengine.graded import Combination
from ntkengine.joint import Joint, Near
from ntkengine.positions import of_own_positions

if TYPE_CHECKING:
    from torch import Tensor

Linear = Callable[["Tensor", int], "Tensor"]  # of a covariance with that many axes before its positions


class Pairs(NamedTuple):
    """The kernels (r, c), (r, c, P) or (r, c, P, P) of some rows and some columns, numbers among all inputs;
    `coincident` if the columns begin where the rows do, so that the entries (i, i) are those of inputs with
    themselves. Results keep the order in memory: that of (P, r, c) makes long rows of what windows add up."""

    nngp: Tensor
    ntk: Tensor
    rows: slice
    columns: slice
    coincident: bool


class Affine(NamedTuple):
    """Leading terms after a layer with weights: the NNGP from that before, the NTK from both before."""

    nngp: Combination
    ntk: Combination

    def on(self, pairs: Pairs) -> Pairs:
        """The pairs after it, in the same memory; passes through it are what this costs."""
        (gradient, forward), bias = self.ntk
        (factor,), shift = self.nngp
        affine(pairs.ntk, forward, bias)
        if gradient:
            pairs.ntk.add_(pairs.nngp, alpha=gradient)
        affine(pairs.nngp, factor, shift)
        return pairs


def affine(values: Tensor, factor: float, shift: float) -> None:
    """In place, in one pass; what stays behind the leading term is nothing, even where it is infinite."""
    import torch

    if not factor:
        values.fill_(shift)
    elif shift:
        torch.add(values.new_tensor(shift), values, alpha=factor, out=values)
    elif factor != 1.0:
        values.mul_(factor)


class Mapped(NamedTuple):
    """After a linear map of positions."""

    linear: Linear
    first: bool  # there is no NTK yet

    def on(self, pairs: Pairs) -> Pairs:
        """The pairs after it."""
        import torch

        nngp = self.linear(pairs.nngp, 2)
        return pairs._replace(
            nngp=nngp, ntk=torch.zeros_like(nngp) if self.first else self.linear(pairs.ntk, 2)
        )


class Activated(NamedTuple):
    """After an activation with that dual. Of each of all inputs, (n,) or (n, P): the variance before it, and
    value and slope with itself."""

    dual: Callable[[Joint], Any]
    variances: Tensor
    value: Tensor
    slope: Tensor

    def joint(self, pairs: Pairs) -> Joint:
        """The joint laws before it."""
        first, second = self.variances[pairs.rows, None], self.variances[None, pairs.columns]
        if pairs.nngp.ndim == 4:
            first, second = first[..., None], second[..., None, :]
        return Joint(first, pairs.nngp, second)

    def near(self, pairs: Pairs, nearness: float) -> Near | None:
        """Pairs that nearly coincide, or nearly oppose each other."""
        return Near.of(self.joint(pairs), nearness, once=pairs.coincident)

    def on(self, pairs: Pairs) -> Pairs:
        """The pairs after it; the NTK in the same memory."""
        after = self.dual(self.joint(pairs))
        value = after.value.expand_as(pairs.nngp)
        if 0 in value.stride():  # the same for many pairs, which the next step does not take
            value = value.contiguous()
        if not pairs.coincident:
            pairs.ntk.mul_(after.slope)
            return pairs._replace(nngp=value)
        own = of_own_positions(pairs.ntk)
        exact = own * self.slope[pairs.rows]
        pairs.ntk.mul_(after.slope)
        own.copy_(exact)
        of_own_positions(value).copy_(self.value[pairs.rows])
        return pairs._replace(nngp=value)


Step = Affine | Mapped | Activated
