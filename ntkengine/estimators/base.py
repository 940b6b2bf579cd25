"""What the estimators share: standardised inputs, candidate networks, and the kernel of the chosen one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from ntkengine.estimators.kernel import Get, fully_connected, gram
from ntkengine.estimators.spectrum import Spectrum
from ntkengine.model import Model

Array = NDArray[np.float64]

DEPTHS = (1, 2, 3, 5)
RIDGES = tuple(10.0**power for power in range(-6, 2))


class Estimator(BaseEstimator, ABC):  # type: ignore[misc]
    """An infinitely wide network on tabular data."""

    depth: int | tuple[int, ...]
    activation: str
    W_std: float
    b_std: float
    kernel: Get
    standardize: bool
    model: Model | None

    @abstractmethod
    def fit(self, X: Any, y: Any) -> Self:
        """Fit to inputs (n, d) and targets."""

    def _networks(self) -> list[Model]:
        """The networks to choose from."""
        if self.model is not None:
            return [self.model]
        depths = [int(depth) for depth in positive(self.depth, "depth")]
        return [fully_connected(depth, self.activation, self.W_std, self.b_std) for depth in depths]

    def _spectra(self, X: Array) -> Iterator[tuple[Model, Spectrum]]:
        """The candidates with their training kernels."""
        scaler = StandardScaler(with_mean=self.standardize, with_std=self.standardize)
        self.scaler_ = scaler.fit(X)
        self.X_fit_ = scaler.transform(X)
        for network in self._networks():
            yield network, Spectrum(gram(network, self.X_fit_, None, self.kernel))

    def _validated(self, X: Any) -> Array:
        """New inputs, standardised like the old."""
        check_is_fitted(self)
        checked = validate_data(self, X, reset=False, dtype=np.float64)
        return np.asarray(self.scaler_.transform(checked))

    def _kernel_with_training(self, standardized: Array) -> Array:
        """The kernel (m, n) of m new inputs with the n old."""
        return gram(self.model_, standardized, self.X_fit_, self.kernel)


def positive(values: Any, name: str) -> list[float]:
    """One value, or several to choose from, as a list.

    Raises:
        ValueError: one of them is not above 0.
    """
    found: list[float] = np.atleast_1d(np.asarray(values, np.float64)).tolist()
    if not found or min(found) <= 0:
        raise ValueError(f"{name} must be above 0, or several such values to choose from; got {values!r}")
    return found


def columns(y: Array) -> Array:
    """Targets (n,) or (n, k) as (n, k)."""
    return np.asarray(y, np.float64).reshape(len(y), -1)
