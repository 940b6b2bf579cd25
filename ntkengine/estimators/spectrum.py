"""What one eigendecomposition of a kernel gives for all ridges: fits, leave-one-out errors, evidences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ridge:
    """Kernel ridge regression, `f_k(x) = sum_i K(x, x_i) dual[i, k] + intercept[k]`."""

    dual: Array  # (n, k)
    intercept: Array  # (k,)
    left_out: Array  # (n, k): y_i - f_(-i)(x_i), with f_(-i) trained without sample i


@dataclass(frozen=True)
class Process:
    """A Gaussian process with mean zero, given y: `f_k(x) = sum_i K(x, x_i) dual[i, k]`."""

    dual: Array  # (n, k)
    amplitude: Array  # (k,)
    log_likelihood: float


class Spectrum:
    """A training kernel K (n, n), decomposed once for all ridges."""

    def __init__(self, kernel: Array) -> None:
        values, self._vectors = np.linalg.eigh(kernel)
        self.scale = max(float(np.trace(kernel)) / len(kernel), np.finfo(float).tiny)
        self._values = np.maximum(values, 0.0)  # below 0 is rounding

    def ridge(self, y: Array, ridge: float) -> Ridge:
        """The minimum over dual and intercept of `|y - f|^2 + lambda |f|_K^2`, y of shape (n, k).

        lambda is `ridge` times the mean of K's diagonal. With `G = K + lambda I` and
        `P = G^-1 - G^-1 1 1^T G^-1 / (1^T G^-1 1)`, the dual is `P y` and the leave-one-out errors are
        `(P y)_i / P_ii`: exact, the intercept refitted each time too.

        Source: Cawley and Talbot (2007), on least-squares support vector machines, section 2.
        """
        V, damped = self._vectors, self._values + ridge * self.scale
        ones = V @ (V.sum(axis=0) / damped)  # G^-1 1
        total = ones.sum()
        solved = V @ (V.T @ y / damped[:, None])  # G^-1 y
        intercept = (ones @ y) / total
        dual = solved - np.outer(ones, intercept)
        diagonal = (V**2 / damped).sum(axis=1) - ones**2 / total
        return Ridge(dual, intercept, dual / diagonal[:, None])

    def process(self, y: Array, noise: float) -> Process:
        """The prior `a_k (K + lambda I)`, with the amplitudes a_k that make y (n, k) most probable; lambda is
        `noise` times the mean of K's diagonal.

        Source: Rasmussen and Williams (2006), equation 2.30, maximised over the amplitude.
        """
        n, k = y.shape
        damped = self._values + noise * self.scale
        rotated = self._vectors.T @ y
        amplitude = np.maximum((rotated**2 / damped[:, None]).mean(axis=0), np.finfo(float).tiny)
        log_determinants = n * np.log(amplitude).sum() + k * np.log(damped).sum()
        log_likelihood = -0.5 * (log_determinants + n * k * (1 + np.log(2 * np.pi)))
        dual = self._vectors @ (rotated / damped[:, None])
        return Process(dual, amplitude, float(log_likelihood))

    def whitener(self, noise: float) -> Array:
        """W (n, n) with `W W^T = (K + lambda I)^-1`, lambda as in `process`."""
        return np.asarray(self._vectors / np.sqrt(self._values + noise * self.scale))
