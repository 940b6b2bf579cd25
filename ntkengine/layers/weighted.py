"""Layers that sum over features with a tensor of weights: what dense layers and convolutions share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.blocks import LinearMap, Sums
from ntkengine.features import Cumulants, FirstLayer, SinceFork
from ntkengine.first_layer import Preactivation
from ntkengine.graded import ONE, ZERO, Leading, Power, Size, times
from ntkengine.joint import CumulantRule
from ntkengine.laws import AnyLaw, Law, Normal
from ntkengine.layer import Layer, Part, Position, RowStreams, Shape, Site
from ntkengine.lengths import Lengths
from ntkengine.parameterizations import AnyParameterization
from ntkengine.positions import between, one_axis, row_by_row
from ntkengine.spec import Count, NonNegative, spec
from ntkengine.state import KernelState
from ntkengine.steps import Affine

if TYPE_CHECKING:
    from torch import Tensor

W, B = 0, 1  # the random streams of the two tensors

# The bias enters as b_std * n^(power - a) * b; None: it is not scaled at all.
PLACEMENT: dict[str, int | None] = {"outside": None, "scaled": 0, "inside_sum": 1}

Summands = Callable[[], tuple["Tensor", "Tensor"]]  # (n1, [P,] n) and (n2, [P,] n): what the weights multiply


@spec
class Weighted(Layer):
    """`y = W_std n^-a sum_k W[k] x[k] + b_std b` over n incoming numbers, those of a whole window.

    (a, b, c) come from the parameterization. Under `standard`, W_std and b_std scale the laws instead and
    are no part of the function.
    """

    # described here, for docstrings of fields are not inherited
    width: Count | None = Field(
        default=None,
        description="Number of units or channels; may be left out where only the infinite-width kernel "
        "is asked for.",
    )
    W_std: NonNegative = Field(
        default=1.0, description="Constant multiplier of the weights (`standard`: scale of their law)."
    )
    b_std: NonNegative | None = Field(
        default=None,
        description="Constant multiplier of the bias (`standard`: scale of its law); null is no bias.",
    )
    W_law: AnyLaw = Field(default_factory=Normal, description="Law of the raw weights.")
    b_law: AnyLaw = Field(default_factory=Normal, description="Law of the raw bias.")
    b_placement: Literal["outside", "scaled", "inside_sum"] = Field(
        default="outside",
        description="`outside`: the bias is not scaled; `scaled`: it is inside the layer's width scaling; "
        "`inside_sum`: it is added once for each of the n incoming numbers, inside the scaling.",
    )
    parameterization: AnyParameterization | None = Field(
        default=None, description="Overrides the network's parameterization for this layer."
    )

    is_linear: ClassVar[bool] = True

    @abstractmethod
    def fan_in(self, site: Site) -> int:
        """How many incoming numbers a unit sums, n."""

    @abstractmethod
    def weight_shape(self, site: Site) -> tuple[int, ...]:
        """Shape of W."""

    @abstractmethod
    def bias_shape(self, site: Site) -> tuple[int, ...]:
        """Shape of b."""

    @abstractmethod
    def arranged(self, site: Site, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """W from its rows (n, numbers of each row), the numbers of a channel's rows being neighbours."""

    @abstractmethod
    def summed(self, site: Site, W: Tensor, x: Tensor) -> Tensor:
        """`sum_k W[k] x[k]` on a batch, to (n, *out_shape)."""

    @abstractmethod
    def sums(self, site: Site) -> Sums:
        """What the weights do at each position."""

    @final
    def any_weights(self) -> bool:
        return True

    def placed(self, at: Position, out_shape: Shape, lengths: Lengths | None) -> Site:
        """The site of this layer, with the shape and the lengths that leave it."""
        scaling = at.scaling(self.parameterization)
        if PLACEMENT[self.b_placement] is not None:  # a scaled bias moves as the weights do
            scaling = replace(scaling, c_bias=None)
        return replace(
            at.site(self, out_shape, lengths),
            role=at.role,
            only=at.only,
            starts_at_zero=self.W_law.variance == 0,
            scaling=scaling,
        )

    @final
    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        weights = {"W": self.weight_shape(site)}
        return weights if self.b_std is None else weights | {"b": self.bias_shape(site)}

    @final
    def draw(self, site: Site, rows: RowStreams) -> dict[str, NDArray[np.float64]]:
        n, width = self.fan_in(site), site.known_size(site.out_shape)
        law, factor = self._law(site, "W")
        matrix = rows.matrix(law, W, n, math.prod(self.weight_shape(site)) // n)
        drawn = {"W": self.arranged(site, matrix) * (factor * float(n) ** -float(site.scaling.b))}
        if self.b_std is not None:
            law, factor = self._law(site, "b")
            shape = self.bias_shape(site)
            drawn["b"] = rows.matrix(law, B, math.prod(shape) // width, width).reshape(shape) * factor
        return drawn

    @final
    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        n = Size(self.fan_in(site))
        y = self.summed(site, params["W"], x) * self.weight_multiplier(site, n)[0]
        return y if self.b_std is None else y + params["b"] * self.bias_multiplier(site, n)[0]

    def weight_multiplier(self, site: Site, n: Size) -> Power:
        """The multiplier of W."""
        s = site.scaling
        return times((s.function_std(self.W_std) * s.multiplier, ZERO), n.power(-s.a))

    def bias_multiplier(self, site: Site, n: Size) -> Power:
        """The multiplier of b."""
        s, inside = site.scaling, PLACEMENT[self.b_placement]
        constant = (s.function_std(self.b_std or 0.0), ZERO)
        return constant if inside is None else times(constant, (s.multiplier, ZERO), n.power(inside - s.a))

    def affine(self, site: Site, state: KernelState, taps: float, summands: Summands | None) -> KernelState:
        """The rule, once moments are means over the `taps` positions of a window.

        With g and beta the squared multipliers of W and b, v = n E[w^2] and v_b = E[b^2]:
        `nngp' = g v nngp + beta v_b` and `ntk' = g v ntk + g n nngp + beta`. `summands` gives what the
        weights multiply where it is not random.
        """
        n = state.size.times(taps)
        weight = self.weight_multiplier(site, n)
        gradient = times(weight, weight, n.power(ONE))
        forward = times(gradient, n.power(-2 * site.scaling.b), (self._variance(site, "W"), ZERO))
        bias, shift = (0.0, ZERO), 0.0
        if self.b_std is not None:
            bias = times(self.bias_multiplier(site, n), self.bias_multiplier(site, n))
            shift = bias[0] * self._variance(site, "b")
        on_nngp = Leading.of([(state.nngp, forward)], (shift, bias[1]))
        on_ntk = Leading.of([(state.nngp, gradient), (state.ntk, forward)], bias)
        nngp, ntk = on_nngp.on(state.nngp), on_ntk.on(state.nngp, state.ntk)
        grows = nngp.power if self.b_std is None else max(nngp.power, bias[1])
        if grows > 0:
            raise site.unsupported(
                f"its outputs grow as N^{grows / 2}, so the network has no infinite-width limit",
                "check b_placement and the parameterization of this layer",
            )
        cumulants = self._cumulants(site, state, n, summands)
        first = None if cumulants is None or state.spatial else self._first_layer(site, n, summands)
        after = replace(
            state,
            nngp=nngp,
            ntk=ntk,
            size=state.features(self.width),
            inputs=None,
            gaussian=cumulants is None,
            since_fork=SinceFork.FRESH,
            cumulants=cumulants,
            first=first,
            det=state.affine_determinant(forward, (shift, bias[1])),
        )
        return after.noted(Affine(on_nngp.combination, on_ntk.combination))

    @final
    def linear_maps(self, site: Site) -> tuple[LinearMap, ...]:
        n = Size(self.fan_in(site))
        squares = {"W": self.weight_multiplier(site, n)[0] ** 2}
        if self.b_std is not None:
            squares["b"] = self.bias_multiplier(site, n)[0] ** 2
        return (LinearMap(self.sums(site), squares),)

    def _law(self, site: Site, tensor: str) -> tuple[Law, float]:
        """The law of a tensor's entries and the factor on it, without the power of n."""
        s = site.scaling
        if tensor == "b":
            return self.b_law, s.law_std(self.b_std or 0.0)
        return self.W_law, s.law_std(self.W_std) * s.law_factor

    def _variance(self, site: Site, tensor: str) -> float:
        law, factor = self._law(site, tensor)
        return factor**2 * self._finite(site, law, 2)

    def _finite(self, site: Site, law: Law, order: int) -> float:
        """The cumulant of that order, which must exist."""
        value = law.cumulant(order)
        if not math.isfinite(value):
            raise site.unsupported(
                f"the infinite-width kernel needs the moment of order {order} of {law}, which does not exist",
                "use more degrees of freedom (df above that order) or another law",
            )
        return value

    def _first_layer(self, site: Site, n: Size, summands: Summands | None) -> FirstLayer | None:
        """The laws themselves, where the weights multiply known numbers."""
        if summands is None:
            return None
        weight, _ = times(self.weight_multiplier(site, n), n.power(-site.scaling.b))
        W_law, W_scale = self._law(site, "W")
        b_law, b_scale = self._law(site, "b")
        bias = self.bias_multiplier(site, n)[0]
        biased = self.b_std is not None
        layer = Preactivation(
            W_law, weight * W_scale, b_law if biased else None, bias * b_scale if biased else 0.0
        )
        return FirstLayer(layer, *summands())

    def _cumulants(
        self, site: Site, state: KernelState, n: Size, summands: Summands | None
    ) -> Cumulants | None:
        """Cumulants beyond order two of the outputs; None where the outputs are Gaussian.

        Weights on random features add up to a Gaussian, whatever their law, as the width grows;
        weights on the inputs, and the bias, keep theirs.
        """
        laws: list[tuple[Law, float, bool]] = []
        bias, power = self.bias_multiplier(site, n)
        if self.b_std is not None and not self.b_law.gaussian and power == 0:  # else it vanishes as N grows
            laws.append((self.b_law, self._law(site, "b")[1] * bias, False))
        if summands is not None and not self.W_law.gaussian:
            weight, _ = times(self.weight_multiplier(site, n), n.power(-site.scaling.b))
            laws.append((self.W_law, self._law(site, "W")[1] * weight, True))
        if not laws:
            return None

        def rule(overlap: CumulantRule) -> CumulantRule:
            def cumulant(i: int, j: int) -> Tensor | float:
                total: Tensor | float = 0.0
                for law, factor, on_summands in laws:
                    share = self._finite(site, law, i + j) * factor ** (i + j)
                    total = total + (share * overlap(i, j) if on_summands else share)
                return total

            return cumulant

        return Cumulants(*(rule(each) for each in overlaps(state, summands)))


def overlaps(state: KernelState, summands: Summands | None) -> tuple[CumulantRule, CumulantRule]:
    """`sum_k x_k^i x'_k^j` between rows, and of each row with itself, in the layout of the state."""
    extents = state.extents

    def rows() -> tuple[Tensor, Tensor]:
        if summands is None:
            raise ValueError("random features have no overlaps")
        first, second = (one_axis(x) for x in summands())
        return first, second

    def on_pairs(i: int, j: int) -> Tensor:
        first, second = rows()
        inner = row_by_row if state.paired else between
        return inner(first**i, second**j, extents.between).contiguous()

    def on_own(i: int, j: int) -> Tensor:
        import torch

        first, second = rows()
        both = first if state.symmetric else torch.cat((first, second))
        return row_by_row(both**i, both**j, extents.within)

    return on_pairs, on_own
