"""Activations without a closed form: a dual by quadrature, with a bound on its error."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, final

from ntkengine.activations.angle import Angle, angle
from ntkengine.activations.base import Activation
from ntkengine.activations.boxes import on_boxes
from ntkengine.activations.mehler import series, summed
from ntkengine.activations.panels import Curve, splits
from ntkengine.activations.quadrature import HALF, Normal, Pairs, Quadrature
from ntkengine.errors import NumericalError
from ntkengine.joint import Joint
from ntkengine.state import Dual, Method

if TYPE_CHECKING:
    from torch import Tensor

    Pointwise = Callable[[Tensor], Tensor]

CHUNK = 2**15  # pairs that a series is summed over at a time
SETTLED = 1e-14  # what a series may leave out of a pair, relative to its variances after the activation
REACHES = (2 * HALF, 3 * HALF, 4 * HALF)  # standard deviations
LEAK = 1e-17  # of the second moment, beyond the reach
FINER = 24  # nodes of a panel, against which samples are checked
SAMPLES = 12  # of either method, or up to twice as many
ROUNDING = 3e-14  # relative to the largest entry


class NumericActivation(Activation):
    """An activation whose dual is integrated numerically. Subclasses state function and derivative."""

    method: ClassVar[Method] = "numeric"

    @abstractmethod
    def derivative(self, z: Tensor) -> Tensor:
        """`s'(z)`, elementwise."""

    @abstractmethod
    def kinked_at(self) -> tuple[float, ...]:
        """Where s or s' jumps. Kinks left out are found, at some cost."""

    @final
    def dual(self, joint: Joint) -> Dual:
        return numeric_dual(self.function, self.derivative, joint, self.kinked_at())


def numeric_dual(
    function: Pointwise, derivative: Pointwise, joint: Joint, kinks: tuple[float, ...] = ()
) -> Dual:
    """The dual of s under a Gaussian pair, by Hermite series where these converge fast, and by nested
    quadrature elsewhere.

    The method: panels of the real line on which s and s' are polynomials, nearly, are found by bisection,
    with ends at the kinks. On them the Hermite coefficients of s and s' are integrated at every variance.
    A pair's series leaves out at most `|c|^terms` times the root of the power that is missing at either
    variance (Parseval). Pairs for which that is not rounding, of kinked or steep functions near coincident
    inputs, are integrated one by one, or, where many are near each other, interpolated. Work is in float64.

    The errors returned are absolute, and bound the difference to the exact dual on any entry: what series
    and interpolation leave out, twice the largest difference to a finer quadrature on sample pairs, and
    rounding, 3e-14 of the largest entry.

    Args:
        function: s, of tensors of any shape, elementwise.
        derivative: s', likewise.
        joint: Gaussian pairs; q11, q12 and q22 of any shapes that broadcast against each other.
        kinks: where s or s' is not smooth.

    Raises:
        NumericalError: s or s' is not finite, varies too often, or grows too fast for variances this large.

    >>> import torch
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> relu = numeric_dual(torch.relu, lambda z: (z > 0) * one, Joint(one, 0.5 * one, one), (0.0,))
    >>> print(f"{relu.value.item():.12f} {relu.slope.item():.12f}")
    0.304498890522 0.333333333333
    """
    import torch

    with torch.no_grad():
        pairs = aligned(joint)
        curve = Curve(function, derivative, kinks)
        rule = quadrature(curve, float(torch.maximum(pairs.q11.max(), pairs.q22.max())))
        between = angle(pairs)
        out, settled, left = integrated(rule, pairs, between)
        seen = samples(pairs, between, settled)
        finer = replace(rule, normal=replace(rule.normal, order=FINER))(flat(pairs, between, seen))
        observed = (out[:, seen] - finer).abs().amax(1)
        errors = left + 2.0 * observed + ROUNDING * out.flatten(1).abs().amax(1)
    shape = (joint.q11 + joint.q12 + joint.q22).shape
    value, slope = (each.reshape(shape).to(joint.q12) for each in out)
    return Dual(value, slope, float(errors[0]), float(errors[1]))


def aligned(joint: Joint) -> Joint:
    """The pairs in float64, q12 and the determinant of full shape and the others of as many axes."""
    import torch

    q11, q12, q22 = (q.detach().cpu().double() for q in (joint.q11, joint.q12, joint.q22))
    shape = (q11 + q12 + q22).shape or torch.Size([1])
    q11, q22 = (q.reshape(*[1] * (len(shape) - q.ndim), *q.shape) for q in (q11, q22))
    det = None if joint.det is None else joint.det.detach().cpu().double().expand(shape)
    return Joint(q11, q12.expand(shape), q22, det=det)


def quadrature(curve: Curve, variance: float) -> Quadrature:
    """The rule for variances up to that one.

    Raises:
        NumericalError: the second moment diverges, or is made farther out than any reach.
    """
    import torch

    deviation = max(variance, torch.finfo(torch.float64).tiny) ** 0.5
    for reach in REACHES:
        rule = Quadrature(curve, splits(curve, reach * deviation), Normal(reach, HALF))
        u, weights = rule.normal.nodes(torch.as_tensor(rule.splits.places)[None] / deviation)
        ends = torch.tensor([[-reach, reach]], dtype=torch.float64)
        density = torch.exp(-0.5 * ends * ends)
        both = rule.curve.function, rule.curve.derivative
        leaks = [float((each(deviation * ends).square() * density).sum()) for each in both]
        moments = [float((each(deviation * u).square() * weights).sum()) for each in both]
        sizes = list(zip(leaks, moments, strict=True))
        if all(math.isfinite(moment) and leak <= LEAK * moment for leak, moment in sizes):
            return rule
    raise NumericalError(
        f"the activation grows too fast for a normal law of variance {variance:.3g}",
        hint="scale its inputs down, or use an activation that grows no faster than a polynomial",
    )


def integrated(rule: Quadrature, joint: Joint, between: Angle) -> tuple[Tensor, Tensor, Tensor]:
    """Value and slope (2, *shape), which pairs are by series, and a bound (2,) on what is left out."""
    import torch

    variances, place = torch.unique(
        torch.cat([joint.q11.flatten(), joint.q22.flatten()]), return_inverse=True
    )
    first, second = place.split([joint.q11.numel(), joint.q22.numel()])
    first, second = first.reshape(joint.q11.shape), second.reshape(joint.q22.shape)
    both = series(rule.curve, rule.splits, rule.normal.reach, variances)
    cosine = between.cosine
    out = cosine.new_empty(2, *cosine.shape)
    settled = torch.empty_like(cosine, dtype=torch.bool)
    errors = torch.zeros(2, dtype=torch.float64)
    rows = max(1, CHUNK * len(cosine) // cosine.numel())
    for start in range(0, len(cosine), rows):
        at = slice(start, start + rows)
        left, right = cut(first, at), cut(second, at)
        sums = [summed(each.shaped(left), each.shaped(right), cosine[at]) for each in both]
        settled[at] = torch.stack([missing <= SETTLED * size for _, missing, size in sums]).all(0)
        for i, (total, missing, _) in enumerate(sums):
            out[i, at] = total
            errors[i] = torch.maximum(errors[i], torch.where(settled[at], missing, 0.0).max())
    if not bool(settled.all()):
        out[:, ~settled], added = on_boxes(rule, flat(joint, between, ~settled))
        errors = torch.maximum(errors, added)
    return out, settled, errors


def cut(values: Tensor, at: slice) -> Tensor:
    """Rows of a tensor that may have but one for all."""
    return values if len(values) == 1 else values[at]


def flat(joint: Joint, between: Angle, chosen: Tensor) -> Pairs:
    """The chosen pairs, the more variable one of each first."""
    import torch

    q11, q22 = (q.expand(chosen.shape)[chosen] for q in (joint.q11, joint.q22))
    return Pairs(torch.maximum(q11, q22), torch.minimum(q11, q22), between.radians[chosen])


def samples(joint: Joint, between: Angle, settled: Tensor) -> Tensor:
    """A mask of pairs to look at more closely: the extremes, and some of those by either method."""
    import torch

    every = [q.expand_as(joint.q12) for q in (joint.q11, between.cosine, joint.q22)]
    chosen = [find(each)[None] for each in every for find in (torch.argmin, torch.argmax)]
    for method in (settled, ~settled):
        places = method.flatten().nonzero()[:, 0]
        chosen.append(places[:: max(1, len(places) // SAMPLES)])
    mask = torch.zeros(joint.q12.numel(), dtype=torch.bool)
    mask[torch.cat(chosen)] = True
    return mask.reshape(joint.q12.shape)
