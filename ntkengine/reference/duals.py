"""Dual activations by nested quadrature, to rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

REACH = 12.0  # standard deviations, beyond which the normal density is below rounding
PANELS = 24  # on either side of a split, of 20 Gauss-Legendre nodes each


def expectation(g: Function, q11: float, q12: float, q22: float, *, kink: float = 0.0) -> float:
    """`E[g(z) g(z')]` for a Gaussian pair with those second moments, g smooth but for one kink.

    `z = sqrt(q11) u` and `z' = (q12 / sqrt(q11)) u + sqrt(q22 - q12^2 / q11) v`, u and v independent
    standard normals; both integrals are split where the kink is met.
    """
    first = np.sqrt(q11)
    slope, rest = q12 / first, np.sqrt(q22 - q12**2 / q11)
    u, u_weights = nodes(np.array([kink / first]))
    v, v_weights = nodes((kink - slope * u[0]) / rest)
    inner = (g(slope * u[0][:, None] + rest * v) * v_weights).sum(-1)
    return float((g(first * u[0]) * inner * u_weights[0]).sum())


def nodes(splits: Array) -> tuple[Array, Array]:
    """Nodes and weights of the standard normal, split at each of the places, (places, nodes)."""
    x, w = np.polynomial.legendre.leggauss(20)
    splits = np.clip(splits, -REACH, REACH)[:, None]
    steps = np.linspace(0.0, 1.0, PANELS + 1)
    edges = np.concatenate([-REACH + (splits + REACH) * steps, splits + (REACH - splits) * steps[1:]], axis=1)
    low, half = edges[:, :-1, None], np.diff(edges, axis=1)[..., None] / 2
    u = (low + half * (x + 1)).reshape(len(splits), -1)
    weights = (half * w).reshape(len(splits), -1) * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    return u, weights
