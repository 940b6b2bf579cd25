"""The quadratic network of the notes in plain numpy, with draws of its own and nothing of the engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
X = np.array([1.0, -1.0])


def kernel_change(width: int, t_end: float, rng: np.random.Generator) -> float:
    """`|Theta_T - Theta_0| / |Theta_0|` of one network after the gradient flow to y = (1, 1), by scipy."""
    from scipy.integrate import solve_ivp

    start = np.concatenate(
        [rng.uniform(-1, 1, width), rng.uniform(-0.5, 0.5, width), rng.uniform(-1, 1, width)]
    )

    def flow(_: float, theta: Array) -> Array:
        f, jacobian = outputs(theta)
        slope: Array = -jacobian @ (f - 1.0)
        return slope

    found = solve_ivp(flow, (0.0, t_end), start, method="DOP853", rtol=1e-8, atol=1e-10)
    first, last = (outputs(theta)[1] for theta in (start, found.y[:, -1]))
    kernels = [jacobian.T @ jacobian for jacobian in (first, last)]
    return float(np.linalg.norm(kernels[1] - kernels[0]) / np.linalg.norm(kernels[0]))


def outputs(theta: Array) -> tuple[Array, Array]:
    """f (2,) on both points, and its derivatives (3 N, 2)."""
    w, b, v = np.split(theta, 3)
    z = w[:, None] * X + b[:, None]
    scale = len(w) ** -0.5
    bent = 2 * v[:, None] * z
    return scale * v @ z**2, scale * np.concatenate([bent * X, bent, z**2])


def median_with_error(values: Array) -> tuple[float, float]:
    """The median of values over seeds, and its standard error from 2,000 resamples."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values)))
    return float(np.median(values)), float(np.median(draws, axis=1).std())
