"""The dense layer: its finite map, its infinite-width rule and its share of the empirical NTK."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.errors import SpecError, pointer_of
from ntkengine.laws import AnyLaw, Law, Normal
from ntkengine.layer import Layer, Part, Position, RowStreams, Site
from ntkengine.parameterizations import AnyParameterization
from ntkengine.spec import Count, NonNegative, spec
from ntkengine.state import Contraction, CumulantRule, Cumulants, Derivatives, KernelState, Power, Size

if TYPE_CHECKING:
    from torch import Tensor

W, B = 0, 1  # the random streams of the two tensors

# The bias enters as b_std * n^(power - a) * b; None: it is not scaled at all.
PLACEMENT: dict[str, int | None] = {"outside": None, "scaled": 0, "inside_sum": 1}


@spec
class Dense(Layer):
    """Fully connected: `y = W_std n^-a sum_k W[k] x[k] + b_std b` over the n incoming features.

    W has shape (n, width), b has shape (width,); (a, b, c) come from the parameterization. Under
    `standard`, W_std and b_std scale the laws instead and are no part of the function.
    """

    kind: Literal["dense"] = "dense"
    width: Count | None = None
    """Number of units; may be left out where only an infinite-width kernel is asked for."""
    W_std: NonNegative = 1.0
    """Constant multiplier of the weights (`standard`: scale of their law)."""
    b_std: NonNegative | None = None
    """Constant multiplier of the bias (`standard`: scale of its law); null is no bias."""
    W_law: AnyLaw = Field(default_factory=Normal)
    """Law of the raw weights."""
    b_law: AnyLaw = Field(default_factory=Normal)
    """Law of the raw bias."""
    b_placement: Literal["outside", "scaled", "inside_sum"] = "outside"
    """`outside`: the bias is not scaled; `scaled`: it is inside the layer's width scaling; `inside_sum`:
    it is added once for each of the n incoming features, inside the scaling."""
    parameterization: AnyParameterization | None = None
    """Overrides the network's parameterization for this layer."""

    is_linear: ClassVar[bool] = True

    def any_weights(self) -> bool:
        return True

    def place(self, at: Position) -> Site:
        if len(at.shape) != 1:
            raise SpecError(
                f"{at.path}: dense expects inputs of shape (n, d), got (n, {', '.join(map(str, at.shape))})",
                pointer=pointer_of(at.path),
                hint="flatten each input to one row of numbers",
            )
        return Site(
            layer=self,
            path=at.path,
            in_shape=at.shape,
            out_shape=(self.width,),
            role=at.role,
            only=at.only,
            starts_at_zero=self.W_law.variance == 0,
            scaling=at.scaling(self.parameterization),
        )

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        fan_in, width = site.known_size(site.in_shape), site.known_size(site.out_shape)
        return {"W": (fan_in, width)} | ({} if self.b_std is None else {"b": (width,)})

    def draw(self, site: Site, rows: RowStreams) -> dict[str, NDArray[np.float64]]:
        fan_in, width = self.shapes(site)["W"]
        law, factor = self._law(site, "W")
        shrink, _ = Size(fan_in).power(-site.scaling.b)
        drawn = {"W": factor * shrink * rows.matrix(law, W, fan_in, width)}
        if self.b_std is not None:
            law, factor = self._law(site, "b")
            drawn["b"] = factor * rows.matrix(law, B, 1, width)[0]
        return drawn

    def apply(self, site: Site, params: Mapping[str, Tensor], x: Tensor, parts: tuple[Part, ...]) -> Tensor:
        y = x @ params["W"] * self._weight(site, Size(x.shape[-1]))[0]
        return y if self.b_std is None else y + params["b"] * self._bias(site, Size(x.shape[-1]))[0]

    def rule(self, site: Site, state: KernelState) -> KernelState:
        """With g and beta the squared multipliers of W and b, v = n E[w^2] and v_b = E[b^2]:
        `nngp' = g v nngp + beta v_b` and `ntk' = g v ntk + g n nngp + beta`."""
        size = state.size
        weight = self._weight(site, size)
        gradient = times(weight, weight, size.power(Fraction(1)))
        forward = times(gradient, size.power(-2 * site.scaling.b), (self._variance(site, "W"), Fraction(0)))
        nngp = state.nngp.scaled(*forward)
        ntk = state.ntk.scaled(*forward) + state.nngp_pair().scaled(*gradient)
        bias, bias_power = times(self._bias(site, size), self._bias(site, size))
        if self.b_std is not None:
            ntk = ntk.plus_constant(bias, bias_power)
            nngp = nngp.plus_constant(bias * self._variance(site, "b"), bias_power)
        grows = nngp.power if self.b_std is None else max(nngp.power, bias_power)
        if grows > 0:
            raise site.unsupported(
                f"its outputs grow as N^{grows / 2}, so the network has no infinite-width limit",
                "check b_placement and the parameterization of this layer",
            )
        return replace(
            state,
            nngp=nngp,
            ntk=ntk,
            size=state.features(self.width),
            inputs=None,
            cumulants=self._cumulants(site, state),
        )

    def has_structured_block(self, site: Site) -> bool:
        return True

    def structured_block(
        self, site: Site, left: Derivatives, right: Derivatives, contraction: Contraction
    ) -> Tensor:
        """`(c_W^2 h h'^T + c_b^2) o (g g'^T)`: no Jacobian is formed."""
        size = Size(left.h.shape[-1])
        inner = left.h @ right.h.T * self._weight(site, size)[0] ** 2
        if self.b_std is not None:
            inner = inner + self._bias(site, size)[0] ** 2
        outer = contraction.product(left.g, right.g)
        return outer * inner.reshape(*inner.shape, *[1] * (outer.ndim - 2))

    def _weight(self, site: Site, n: Size) -> Power:
        """The multiplier of W."""
        s = site.scaling
        return times((s.function_std(self.W_std) * s.multiplier, Fraction(0)), n.power(-s.a))

    def _bias(self, site: Site, n: Size) -> Power:
        """The multiplier of b."""
        s, inside = site.scaling, PLACEMENT[self.b_placement]
        constant = (s.function_std(self.b_std or 0.0), Fraction(0))
        return (
            constant
            if inside is None
            else times(constant, (s.multiplier, Fraction(0)), n.power(inside - s.a))
        )

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

    def _cumulants(self, site: Site, state: KernelState) -> Cumulants | None:
        """Cumulants beyond order two of the outputs; None where the outputs are Gaussian.

        Weights on random features add up to a Gaussian, whatever their law, as the width grows;
        weights on the inputs, and the bias, keep theirs.
        """
        n, summands = state.size, []
        bias, power = self._bias(site, n)
        if self.b_std is not None and not self.b_law.gaussian and power == 0:  # else it vanishes as N grows
            summands.append((self.b_law, self._law(site, "b")[1] * bias, False))
        if state.inputs is not None and not self.W_law.gaussian:
            weight, _ = times(self._weight(site, n), n.power(-site.scaling.b))
            summands.append((self.W_law, self._law(site, "W")[1] * weight, True))
        if not summands:
            return None

        def rule(overlap: CumulantRule) -> CumulantRule:
            def cumulant(i: int, j: int) -> Tensor | float:
                total: Tensor | float = 0.0
                for law, factor, on_inputs in summands:
                    share = self._finite(site, law, i + j) * factor ** (i + j)
                    total = total + (share * overlap(i, j) if on_inputs else share)
                return total

            return cumulant

        def on_pairs(i: int, j: int) -> Tensor:
            x1, x2 = state.known_inputs()
            return x1**i @ (x2**j).T

        def on_rows(which: int) -> CumulantRule:
            return lambda i, j: (state.known_inputs()[which] ** (i + j)).sum(-1)

        return Cumulants(rule(on_pairs), rule(on_rows(0)), rule(on_rows(1)))


def times(*powers: Power) -> Power:
    """The product of factors and powers of N."""
    return math.prod(p[0] for p in powers), sum((p[1] for p in powers), Fraction(0))
