"""Pairs that nearly coincide, or nearly oppose each other, through an activation, without loss of digits.

What a later kink needs of such a pair is its angle, and a rounded cosine does not hold it. So the
determinant `q11 q22 - q12^2` is carried along: it keeps its digits where the cosine has none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ntkengine.joint import Joint
from ntkengine.state import DualRule

if TYPE_CHECKING:
    from torch import Tensor

FAR, PANELS, NODES = 12.0, 8, 12  # of the rule for one Gaussian variable, on each side of 0
STEPS = 12  # nodes of the rule along the covariance
CHUNK = 8192  # pairs at a time
ROUNDING = 1e-11  # relative; what rounding leaves in a plain difference is far less


def determinant_after(function: Callable[[Tensor], Tensor], dual: DualRule, joint: Joint) -> Tensor:
    """The determinant of the second moments of (s(z), s(z')), from that of (z, z'), shape (n,).

    Let e be the sign of q12, z* = e z sqrt(q22 / q11) the multiple of z that z' is close to, and s* the sign
    of `E[s(z) s(z*)]`. Then `sqrt(F11 F22) - s* F12` is the sum of
    `sqrt(F11 F22) E[(s(z) / sqrt F11 - s* s(z*) / sqrt F22)^2] / 2`, one Gaussian variable, and of
    `s* e` times the integral of the slope `E[s' s']` over the covariances from |q12| to sqrt(q11 q22)
    (Price, 1958): nothing cancels but what is small.
    """
    import torch

    det = joint.determinant()
    result = torch.empty_like(det)
    for start in range(0, len(det), CHUNK):
        part = slice(start, start + CHUNK)
        chunk = Joint(joint.q11[part], joint.q12[part], joint.q22[part], None, det[part])
        result[part] = of_chunk(function, dual, chunk)
    return result


def of_chunk(function: Callable[[Tensor], Tensor], dual: DualRule, joint: Joint) -> Tensor:
    """`determinant_after` on some pairs."""
    import torch

    sign = torch.where(joint.q12 < 0, -1.0, 1.0).to(joint.q12.dtype)
    nodes, weights = (torch.from_numpy(each).to(joint.q12) for each in gaussian_rule())
    z, other = joint.q11.sqrt()[:, None] * nodes, (sign * joint.q22.sqrt())[:, None] * nodes
    first, second = function(z), function(other)
    aligned = (first * second * weights).sum(1)
    turned = torch.where(aligned < 0, -1.0, 1.0).to(aligned.dtype)
    roots = [(each * each * weights).sum(1).sqrt() for each in (first, second)]
    units = [
        each / torch.where(root > 0, root, 1.0)[:, None]
        for each, root in zip((first, second), roots, strict=True)
    ]
    squares = ((units[0] - turned[:, None] * units[1]) ** 2 * weights).sum(1)
    largest = roots[0] * roots[1]
    short = largest * squares / 2.0 + turned * sign * slope_integral(dual, joint, sign)
    plain = largest - turned * dual(joint).value
    # where a function jumps, its slope is not all of the derivative, and the plain difference is large
    short = torch.where((short - plain).abs() > ROUNDING * largest, plain, short)
    return (short * (2.0 * largest - short)).clamp(min=0.0)


def slope_integral(dual: DualRule, joint: Joint, sign: Tensor) -> Tensor:
    """The integral of `E[s' s']` at q times the sign of q12, over q from |q12| to Q = sqrt(q11 q22): with
    `q = Q - t^2` the integrand is smooth in t even where a kink gives the slope a root."""
    import torch

    longest = (joint.q11 * joint.q22).sqrt()
    total = longest + joint.q12.abs()
    end = torch.sqrt(joint.determinant() / torch.where(total > 0, total, 1.0))
    points, weights = (torch.from_numpy(each).to(end) for each in covariance_rule())
    t = end[:, None] * points
    squares = t * t
    covariance = sign[:, None] * (longest[:, None] - squares)
    det = squares * (2.0 * longest[:, None] - squares)
    slope = dual(Joint(joint.q11[:, None], covariance, joint.q22[:, None], None, det)).slope.expand_as(t)
    return end * (slope * 2.0 * t * weights).sum(1)


@lru_cache(maxsize=1)
def covariance_rule() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(STEPS)
    return (points + 1.0) / 2.0, weights / 2.0


@lru_cache(maxsize=1)
def gaussian_rule() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for the mean over a standard Gaussian variable, in panels that part at 0."""
    points, weights = np.polynomial.legendre.leggauss(NODES)
    edges = np.linspace(-FAR, FAR, 2 * PANELS + 1)
    half, middle = np.diff(edges) / 2.0, (edges[1:] + edges[:-1]) / 2.0
    u = (middle[:, None] + half[:, None] * points).ravel()
    density = np.exp(-u * u / 2.0) / np.sqrt(2.0 * np.pi)
    return u, (half[:, None] * weights).ravel() * density
