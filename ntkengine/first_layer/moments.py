"""Second moments after an activation on a first layer of any law: by sums, by splitting, or by sampling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from ntkengine.errors import NumericalError
from ntkengine.first_layer.nodes import Enumerated
from ntkengine.first_layer.preactivation import Preactivation
from ntkengine.first_layer.profile import Profile
from ntkengine.first_layer.randomised import Precision, points_for, sampled
from ntkengine.first_layer.splitting import plane_of, split_expectations
from ntkengine.positions import mirrored

if TYPE_CHECKING:
    from torch import Tensor, dtype

ACCURACY = 1e-3  # relative to the largest entry


class Averages(NamedTuple):
    """`E[s(z) s(z')]` and `E[s'(z) s'(z')]`, and the standard errors of either; None where they are exact."""

    value: Tensor
    slope: Tensor
    value_error: Tensor | None = None
    slope_error: Tensor | None = None

    def of_dtype(self, dtype: dtype) -> Averages:
        """Rounded to it."""
        errors = (None if each is None else each.to(dtype) for each in self[2:])
        return Averages(self.value.to(dtype), self.slope.to(dtype), *errors)


@dataclass(frozen=True)
class FirstLayerMoments:
    """Second moments on the pairs (n1, n2), or (n,), and of each row with itself: (n1 + n2,), x1 before x2,
    or (n1,) where x2 is x1."""

    pair: Averages
    own: Averages
    method: Literal["exact", "quadrature"]
    precision: Precision | None = None
    """Of quadrature."""
    warnings: tuple[str, ...] = ()


def first_layer_moments(
    profile: Profile,
    preactivation: Preactivation,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    paired: bool = False,
    precision: Precision | None = None,
    rtol: float = ACCURACY,
) -> FirstLayerMoments:
    """`E[s(z) s(z')]` and `E[s'(z) s'(z')]` over the actual law of `z = W_factor sum_k w_k x_k + b_factor b`.

    Exact, to rounding, for piecewise polynomials of degree 6 at most where inputs have one dimension, by
    splitting at the kinks, and for discrete laws of few values, by sums. Otherwise means over scrambled Sobol
    points, the same for all pairs, so that kernels are positive semi-definite; their standard errors are
    those of the mean over independent randomisations. Work is in float64.

    Args:
        profile: the activation.
        preactivation: the laws and factors of the first layer.
        x1: (n1, d).
        x2: (n2, d); x1 if left out.
        paired: row i of x1 goes with row i of x2 alone.
        precision: number and seed of the points; by default as many as `rtol` asks for on these inputs.
        rtol: standard errors aimed at, relative to the largest entry.

    Raises:
        UnsupportedError: the expectations do not exist, or there are no Sobol points of that many dimensions.
        NumericalError: s or s' overflows.

    >>> import torch
    >>> from ntkengine.first_layer import Growth, PiecewisePolynomial, slope_of
    >>> from ntkengine.laws import Uniform
    >>> pieces = PiecewisePolynomial(kinks=(0.0,), coefficients=((0.0,), (0.0, 1.0)))
    >>> relu = Profile(torch.relu, slope_of(torch.relu), Growth(order=1), pieces)
    >>> layer = Preactivation(Uniform(half_width=1.0), 1.0, Uniform(half_width=0.5), 1.0)
    >>> found = first_layer_moments(relu, layer, torch.tensor([[1.0], [-1.0]]).double())
    >>> found.method, [round(v, 12) for v in found.pair.value.flatten().tolist()]
    ('exact', [0.208333333333, 0.010416666667, 0.010416666667, 0.208333333333])
    """
    import torch

    largest = max(float(x.abs().max()) for x in (x1, x2) if x is not None)
    preactivation.require(profile.growth, largest)
    rows = Rows(x1.double(), None if x2 is None else x2.double(), paired)
    with torch.no_grad():
        found = (
            by_sums(profile, preactivation, rows)
            or by_splitting(profile, preactivation, rows)
            or by_sampling(profile, preactivation, rows, precision, rtol)
        )
    averages = (found.pair.value, found.pair.slope, found.own.value, found.own.slope)
    if not all(bool(each.isfinite().all()) for each in averages):
        raise NumericalError(
            "the second moments of the first layer overflow", hint="scale the inputs, or the weights, down"
        )
    return replace(found, pair=found.pair.of_dtype(x1.dtype), own=found.own.of_dtype(x1.dtype))


class Rows(NamedTuple):
    """The inputs, and whether row i of x1 goes with row i of x2 alone."""

    x1: Tensor
    x2: Tensor | None
    paired: bool

    def all(self) -> Tensor:
        """Those of x1 before those of x2."""
        import torch

        return self.x1 if self.x2 is None else torch.cat([self.x1, self.x2])

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Row indices, in `all`, of the pairs that make the result."""
        import torch

        first, offset = len(self.x1), 0 if self.x2 is None else len(self.x1)
        if self.paired:
            return torch.arange(first), torch.arange(first) + offset
        if self.x2 is None:
            above = torch.triu_indices(first, first)
            return above[0], above[1]
        grid = torch.cartesian_prod(torch.arange(first), torch.arange(len(self.x2)) + offset)
        return grid[:, 0], grid[:, 1]

    def arranged(self, values: Tensor) -> Tensor:
        """Values of these pairs as (n1, n2), or (n,)."""
        if self.paired:
            return values
        if self.x2 is not None:
            return values.reshape(len(self.x1), len(self.x2))
        square = values.new_zeros(len(self.x1), len(self.x1))
        first, second = self.pairs()
        square[first, second] = values
        return mirrored(square)

    def symmetric(self, values: Tensor) -> Tensor:
        """Values (2, n1, n2), to the last bit symmetric where x2 is x1."""
        import torch

        if self.paired or self.x2 is not None:
            return values
        return torch.stack([mirrored(each) for each in values])


def by_sums(profile: Profile, preactivation: Preactivation, rows: Rows) -> FirstLayerMoments | None:
    """Over all values of discrete laws."""
    values = Enumerated.of(preactivation, rows.x1.shape[1])
    if values is None:
        return None
    found = sampled(profile, values, preactivation, *rows)
    return FirstLayerMoments(Averages(*rows.symmetric(found.pair)), Averages(*found.own), "exact")


def by_splitting(profile: Profile, preactivation: Preactivation, rows: Rows) -> FirstLayerMoments | None:
    """Exact, of a piecewise polynomial in one dimension."""
    import torch

    plane = plane_of(profile, preactivation, rows.x1.shape[1])
    if plane is None:
        return None
    x = rows.all()[:, 0]
    z = x.cpu().numpy()
    first, second = (index.numpy() for index in rows.pairs())
    pair = split_expectations(profile, plane, z[first], z[second])
    own = split_expectations(profile, plane, z, z)
    return FirstLayerMoments(
        Averages(*(rows.arranged(torch.from_numpy(each).to(x.device)) for each in pair)),
        Averages(*(torch.from_numpy(each).to(x.device) for each in own)),
        "exact",
    )


def by_sampling(
    profile: Profile, preactivation: Preactivation, rows: Rows, precision: Precision | None, rtol: float
) -> FirstLayerMoments:
    """Means over scrambled Sobol points."""
    growth, largest = profile.growth, float(rows.all().abs().max())
    warnings = [preactivation.doubt(growth, largest)]
    if precision is None:
        precision, reached = points_for(profile, preactivation, rows.all(), rtol)
        warnings.append(None if reached else f"standard errors are over {rtol:g} of the largest entry")
    nodes = precision.nodes(preactivation, rows.x1.shape[1])
    found = sampled(profile, nodes, preactivation, *rows)
    pair, pair_error = rows.symmetric(found.pair), rows.symmetric(found.pair_error)
    return FirstLayerMoments(
        Averages(*pair, *pair_error),
        Averages(*found.own, *found.own_error),
        "quadrature",
        precision,
        tuple(each for each in warnings if each),
    )
