"""What the infinite-width rules pass on.

A kernel is carried as the coefficient of its leading power of the hidden width N (`Graded`), so that
no rule ever meets an infinity, or a zero, that only the limit makes. Torch-free.

Arrays are laid out as `ntkengine.positions` says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from ntkengine.features import Cumulants, FirstLayer, SinceFork
from ntkengine.first_layer import Precision, Profile, first_layer_moments, points_for
from ntkengine.first_layer.moments import ACCURACY
from ntkengine.graded import Graded, Power, Size
from ntkengine.joint import Joint, Near, affine_determinant, determinant_of_rows
from ntkengine.lengths import Lengths
from ntkengine.positions import (
    Extent,
    Needs,
    between,
    equal_positions,
    mirrored,
    one_axis,
    row_by_row,
    with_coincident,
)
from ntkengine.rounding import Errors, errors_behind, largest
from ntkengine.steps import Activated, Linear, Mapped, Step

if TYPE_CHECKING:
    from torch import Tensor


class Dual(NamedTuple):
    """`value = E[s(z) s(z')]` and `slope = E[s'(z) s'(z')]`, of the shape of q12.

    The errors bound what a numeric method leaves on any entry, beyond rounding; 0 for a closed form.
    """

    value: Tensor
    slope: Tensor
    value_error: float = 0.0
    slope_error: float = 0.0


DualRule = Callable[[Joint], Dual]


Method = Literal["closed_form", "moments", "numeric", "quadrature"]


def less_exact(*methods: Method) -> Method:
    """The last of them in the order in which `Method` lists them."""
    order = get_args(Method)
    return max(methods, key=order.index)


@dataclass(frozen=True)
class KernelState:
    """Infinite-width state between two layers, for n1 inputs x1 and n2 inputs x2.

    `nngp` holds the second moment `E[h(x1) h(x2)]` of one feature, averaged over features, on the pairs
    (n1, n2) and, where something later needs them, of each row with itself: (n1 + n2,), x1 before x2, or
    (n1,) where x2 is x1. `ntk` (n1, n2) is the NTK of the features, `size` their number. Features with P
    positions add (P, P), or (P,) where equal positions are all that is kept. If `paired`, row i of x1
    goes with row i of x2 alone, and pairs are (n,).
    """

    nngp: Graded
    ntk: Graded
    size: Size
    symmetric: bool  # x2 is x1
    symbolic: bool  # hidden widths are the symbol N
    paired: bool = False
    inputs: tuple[Tensor, Tensor] | None = None  # the features, where they are not random
    lengths: tuple[Tensor, Tensor] | None = None  # of the network's inputs, (n1, axes), where they differ
    gaussian: bool = False  # the features are Gaussian, with mean 0
    since_fork: SinceFork = SinceFork.KEPT
    cumulants: Cumulants | None = None  # of features that are not Gaussian, where they are known
    first: FirstLayer | None = None  # where these are weighted sums of known numbers
    precision: Precision | None = None  # of quadrature over a first layer, once it is chosen
    det: Tensor | None = None  # of paired rows, q11 q22 - q12^2 without cancellation
    nearness: float = (
        0.0  # pairs with a cosine within this of 1 or -1 are looked for, at the first activation
    )
    near: Near | None = None  # those pairs
    method: Method = "closed_form"  # the least exact of those by which expectations were taken
    probed: tuple[float, ...] = ()  # measure what an error becomes in pairs so near to coincident ones, each
    notes: tuple[Step, ...] | None = None  # what was done to each pair of inputs, where that is asked for
    nngp_error: Errors = 0.0  # relative to the largest entry; where probed, for each nearness
    ntk_error: Errors = 0.0

    @classmethod
    def from_inputs(
        cls, x1: Tensor, x2: Tensor, *, symmetric: bool, symbolic: bool, needs: Needs, paired: bool = False
    ) -> KernelState:
        """The state of the inputs themselves, (n, *axes, C): moments are means over the C features."""
        first, second = one_axis(x1), one_axis(x2)
        rows = first if symmetric else concatenated(first, second)
        channels = first.shape[-1]
        inner = row_by_row if paired else between
        pair = inner(first, second, needs.between).div_(channels)
        own = (row_by_row(rows, rows, needs.within) / channels,) if needs.within else ()
        if symmetric and own:  # a matrix product sums in another order
            pair = with_coincident(pair, own[0])
        return cls(
            nngp=Graded((pair, *own)),
            ntk=Graded((pair.new_zeros(pair.shape),), vanishes=True),
            size=Size(channels),
            symmetric=symmetric,
            symbolic=symbolic,
            paired=paired,
            inputs=(x1, x2),
            det=determinant_of_rows(first, second) if paired and first.ndim == 2 else None,
        )

    @classmethod
    def of_inputs(cls, x: Tensor, *, symbolic: bool) -> KernelState:
        """The state of inputs (n, d), each paired with itself."""
        import torch

        v = torch.linalg.vector_norm(x, dim=1).square_() / x.shape[1]
        return cls(
            nngp=Graded((v, concatenated(v, v))),
            ntk=Graded((v.new_zeros(v.shape),), vanishes=True),
            size=Size(x.shape[1]),
            symmetric=False,
            symbolic=symbolic,
            paired=True,
            inputs=(x, x),
            det=v.new_zeros(v.shape),
        )

    @property
    def extents(self) -> Needs:
        """How much of the covariance between positions is there."""
        between_rows = self.nngp.pair.ndim == (3 if self.paired else 4)
        within = Extent.NONE
        for own in self.nngp.own:
            within = Extent.FULL if own.ndim == 3 else Extent.DIAGONAL
        return Needs(Extent.FULL if between_rows else Extent.DIAGONAL, within)

    def with_inputs(self, x1: Tensor, x2: Tensor) -> KernelState:
        """The state of other inputs in the place of these."""
        state = self.from_inputs(
            x1, x2, symmetric=self.symmetric, symbolic=self.symbolic, needs=self.extents, paired=self.paired
        )
        return replace(
            state,
            lengths=self.lengths,
            nearness=self.nearness,
            probed=self.probed,
            precision=self.precision,
        )

    def known_inputs(self) -> tuple[Tensor, Tensor]:
        """The features of a state that are the network's inputs."""
        if self.inputs is None:
            raise ValueError("the features of this state are random")
        return self.inputs

    def features(self, width: int | None) -> Size:
        """The size of a hidden layer of that width."""
        return Size(None if self.symbolic else width)

    def mapped(self, linear: Linear) -> KernelState:
        """The state after a linear map of the positions, the same for every feature."""

        def on_all(graded: Graded) -> Graded:
            pairs = 1 if self.paired else 2
            values = tuple(linear(v, 1 if index else pairs) for index, v in enumerate(graded.values))
            return replace(graded, values=values)

        nngp = on_all(self.nngp)
        none = replace(self.ntk, values=(nngp.pair.new_zeros(nngp.pair.shape),))
        ntk = none if self.ntk.vanishes else on_all(self.ntk)
        moved = replace(self, nngp=nngp, ntk=ntk, inputs=None, cumulants=None, first=None, det=None)
        return moved.noted(Mapped(linear, self.ntk.vanishes))

    def mixed(self, linear: Linear) -> KernelState:
        """`mapped`, by a map that mixes positions: moments kept at equal positions alone are dropped."""
        whole = self.extents.within is not Extent.DIAGONAL or not self.spatial
        return (self if whole else self.trimmed(Needs(within=Extent.NONE))).mapped(linear)

    def noted(self, step: Step) -> KernelState:
        """The state with a note of what was done to each pair of inputs, where notes are taken."""
        return self if self.notes is None else replace(self, notes=(*self.notes, step))

    def noted_since(self, before: KernelState) -> KernelState:
        """The state; without notes, if what was done since that other one left none."""
        silent = self.notes is not None and self.notes is before.notes and self is not before
        return replace(self, notes=None) if silent else self

    @property
    def spatial(self) -> bool:
        """The features have positions."""
        return self.nngp.pair.ndim > (1 if self.paired else 2)

    def trimmed(self, needs: Needs) -> KernelState:
        """The state without covariances that nothing needs."""
        full = 3 if self.paired else 4
        if all(kept <= needed for kept, needed in zip(self.extents, needs, strict=True)):
            return self

        cut = needs.between < Extent.FULL and self.nngp.pair.ndim == full

        def trim(graded: Graded) -> Graded:
            pair, own = graded.pair, graded.own if needs.within else ()
            if cut:
                pair = equal_positions(pair)
            if needs.within < Extent.FULL:
                own = tuple(map(of_each_position, own))
            return replace(graded, values=(pair, *own))

        det = self.det if needs.within else None  # it goes with the variances
        trimmed = replace(self, nngp=trim(self.nngp), ntk=trim(self.ntk), det=det)
        return trimmed.noted(Mapped(at_equal_positions, self.ntk.vanishes)) if cut else trimmed

    def of_each(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Something of each row, (n1 + n2, ...), as that of x1 and that of x2, for the pairs of these."""
        rows, columns = self.nngp.pair.shape[0], self.nngp.pair.shape[0 if self.paired else 1]
        first, second = values[:rows], values[len(values) - columns :]
        return (first, second) if self.paired else (first[:, None], second[None])

    def of_positions(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The same of numbers (n1 + n2,) or, at each position, (n1 + n2, P): they broadcast with pairs."""
        first, second = self.of_each(values)
        full = self.nngp.pair.ndim == (3 if self.paired else 4)
        return (first[..., None], second[..., None, :]) if full else (first, second)

    def variances(self) -> tuple[Tensor, Tensor]:
        """`E[h^2]` of x1 and of x2, in shapes that broadcast against the pairs."""
        return self.of_positions(of_each_position(self.nngp.own[0]))

    def times_rows(self, factors: Tensor) -> KernelState:
        """The state of features times a factor for each row (n1 + n2,), or each of its positions (.., P)."""
        first, second = self.of_positions(factors)
        on_pairs = first * second
        full = self.extents.within is Extent.FULL
        left, right = (factors[..., :, None], factors[..., None, :]) if full else (factors, factors)
        own = (each * (left * right) for each in self.nngp.own)
        return replace(
            self,
            nngp=replace(self.nngp, values=(self.nngp.pair * on_pairs, *own)),
            ntk=replace(self.ntk, values=(self.ntk.pair * on_pairs,)),
            inputs=None,
            cumulants=self.cumulants and self.cumulants.scaled((first, second), (left, right)),
            first=None,
            det=None if self.det is None else self.det * on_pairs**2,
            notes=None,
        )

    def present(self, at: Lengths | None) -> Tensor | None:
        """Which positions of each row are there, (n1 + n2, *axes), as lengths say; None where all are."""
        return None if self.lengths is None or at is None else at.present(self._of_rows(*self.lengths))

    def cut(self, at: Lengths, path: str) -> KernelState:
        """The state of features that are 0 where an input has ended.

        Raises:
            SpecError: nothing is left of an input.
        """
        if self.inputs is None:
            if self.lengths is None:
                raise ValueError("lengths are those of inputs")
            rows = self._of_rows(*self.lengths)
            at.check(rows, path)
            return self.times_rows(at.factors(rows, self.nngp.pair).flatten(1))
        first, second = self.lengths or [at.of(x, path) for x in self.inputs]
        at.check(self._of_rows(first, second), path)
        x1, x2 = self.inputs
        return replace(self, lengths=(first, second)).with_inputs(at.cut(x1, first), at.cut(x2, second))

    def _of_rows(self, first: Tensor, second: Tensor) -> Tensor:
        """Something of x1 and of x2 as that of each row."""
        return first if self.symmetric else concatenated(first, second)

    def joints(self) -> tuple[Joint, Joint]:
        """The joint laws of the pairs (x1, x2), and of each row with itself."""
        pair, own = self.nngp.values
        first, second = self.variances()
        higher = self.cumulants or (None, None)
        v = of_each_position(own)
        left, right = (v[:, :, None], v[:, None, :]) if own.ndim == 3 else (v, v)
        return Joint(first, pair, second, higher[0], self.det), Joint(left, own, right, higher[1])

    def elementwise(self, dual: DualRule, method: Method) -> KernelState:
        """The state after an activation with that dual; coincident pairs are taken from the diagonal."""
        pair, own = self.joints()
        out, diagonal = dual(pair), dual(own)
        value, slope = out.value, out.slope.expand_as(out.value)
        if self.symmetric:
            value = with_coincident(value, diagonal.value)
            slope = with_coincident(slope, diagonal.slope.expand_as(diagonal.value))
        vanishes = self.nngp.vanishes and not bool(value.any())
        nngp = Graded((value, diagonal.value), vanishes=vanishes)
        after = self._activated(nngp, slope, method, self._errors(dual, out, diagonal))
        if self.notes is not None and pair.higher is None:
            numbers = (self.nngp.own[0], diagonal.value, diagonal.slope.expand_as(diagonal.value))
            of_rows = (each[: len(out.value)] for each in numbers)
            after = after.noted(Activated(dual, *map(of_each_position, of_rows)))
        return replace(after, near=self.near or self._find_near(), nearness=0.0)

    def after_first_layer(self, profile: Profile) -> KernelState:
        """The state after an activation on a first layer whose law is not normal."""
        if self.first is None:
            raise ValueError("this state is not that of a first layer")
        layer, x1, x2 = self.first
        precision = self.precision or points_for(profile, layer, x1, ACCURACY)[0]
        found = first_layer_moments(
            profile, layer, x1, None if self.symmetric else x2, paired=self.paired, precision=precision
        )
        nngp_error, ntk_error = (
            0.0 if error is None else float(error.max()) / largest(values)
            for values, error in (found.pair[::2], found.pair[1::2])
        )
        nngp = Graded((found.pair.value, found.own.value))
        method: Method = "moments" if found.method == "exact" else "quadrature"
        after = self._activated(nngp, found.pair.slope, method, (nngp_error, ntk_error))
        return replace(after, precision=precision)

    def _activated(
        self, nngp: Graded, slope: Tensor, method: Method, errors: tuple[Errors, Errors]
    ) -> KernelState:
        """The state after an activation: nothing is known of its features but their second moments."""
        return replace(
            self,
            nngp=nngp,
            ntk=replace(self.ntk, values=(self.ntk.pair * slope,)),
            nngp_error=errors[0],
            ntk_error=errors[1],
            inputs=None,
            gaussian=False,
            since_fork=SinceFork.LOST,
            cumulants=None,
            first=None,
            det=None,
            method=less_exact(self.method, method),
        )

    def _errors(self, dual: DualRule, out: Dual, diagonal: Dual) -> tuple[Errors, Errors]:
        """The errors after an activation: what its dual's method leaves, and, where probed, what becomes of
        the error so far in a (nearly) coincident pair."""
        nngp, ntk = self.nngp_error, self.ntk_error
        if self.probed:
            nngp, of_slope = errors_behind(dual, self.joints()[1], self.probed, nngp)
            ntk = np.maximum(ntk, of_slope)
        if out.value_error or out.slope_error:
            nngp = nngp + out.value_error / largest(diagonal.value)
            ntk = ntk + out.slope_error / largest(diagonal.slope)
        return nngp, ntk

    def _find_near(self) -> Near | None:
        """The pairs of rows, each pair once, that nearly coincide or nearly oppose each other."""
        if not self.nearness or self.paired or self.nngp.pair.ndim > 2:
            return None
        first, second = self.variances()
        return Near.of(Joint(first, self.nngp.pair, second), self.nearness, once=self.symmetric)

    def affine_determinant(self, factor: Power, shift: Power) -> Tensor | None:
        """The determinant once every second moment is times a factor and plus a constant, each with its power
        of N: that of the leading one."""
        if self.det is None:
            return None
        (f, power), (constant, bias_power) = factor, shift
        power = power + self.nngp.power
        if constant == 0 or power > bias_power:
            return self.det * f**2
        if power < bias_power:
            return self.det.new_zeros(self.det.shape)
        first, second = self.variances()
        return affine_determinant(Joint(first, self.nngp.pair, second, None, self.det), f, constant)

    def with_near(self, apart: KernelState) -> KernelState:
        """The state with the values of its near pairs from a state of those pairs alone."""

        def put(graded: Graded, values: Graded) -> Graded:
            pair = graded.pair.clone()
            if self.near is not None:
                pair[self.near.rows, self.near.columns] = values.pair.to(pair.dtype)
            return replace(graded, values=(pair, *graded.own))

        return replace(self, nngp=put(self.nngp, apart.nngp), ntk=put(self.ntk, apart.ntk))

    def mirrored(self) -> KernelState:
        """The state of one set of inputs, symmetric to the last bit."""
        nngp = replace(self.nngp, values=(mirrored(self.nngp.pair), *self.nngp.own))
        return replace(self, nngp=nngp, ntk=replace(self.ntk, values=(mirrored(self.ntk.pair),)))


def at_equal_positions(moment: Tensor, leading: int) -> Tensor:
    """Moments at equal positions alone."""
    return equal_positions(moment) if moment.ndim == leading + 2 else moment


def of_each_position(own: Tensor) -> Tensor:
    """Of covariances of each row with itself, (n,), (n, P) or (n, P, P), those of equal positions."""
    return at_equal_positions(own, 1)


def concatenated(first: Tensor, second: Tensor) -> Tensor:
    """The rows of both."""
    import torch

    return torch.cat((first, second))
