"""A Gaussian process with the kernel of a wide network."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from ntkengine.estimators.base import DEPTHS, RIDGES, Estimator, columns, positive
from ntkengine.estimators.kernel import DEFAULT_B_STD, Get, diagonal, gram
from ntkengine.estimators.spectrum import Process, Spectrum
from ntkengine.model import Model

Array = NDArray[np.float64]


class NTKGaussianProcessRegressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """A Gaussian process with the kernel of a wide network as its covariance, around the mean of the targets.

    Network and noise are those that make the targets most probable, as does the amplitude, which has a
    closed form.

    Args:
        depth: hidden layers; several to choose from.
        activation: the `kind` of an activation, such as `relu`, `erf` or `gelu`.
        W_std: multiplier of every weight.
        b_std: multiplier of every bias.
        noise: variance of the noise, in units of the kernel's mean diagonal; several to choose from.
        kernel: `ntk`, or `nngp`: the covariance of the untrained network, whose posterior is that of a
            Bayesian network.
        standardize: whether columns are shifted and scaled to mean 0 and variance 1.
        model: any other network for inputs (n, d), in place of depth, activation, W_std and b_std.

    Attributes:
        model_, noise_: what was chosen.
        log_marginal_likelihood_: its evidence.
        amplitude_: factors (k,) of the kernel.
        noise_std_: standard deviations (k,) of the noise, in units of the targets.

    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> process = NTKGaussianProcessRegressor().fit(X, np.sin(3 * X[:, 0]))
    >>> mean, std = process.predict([[0.05], [3.0]], return_std=True)
    >>> bool(abs(mean[0] - np.sin(0.15)) < 0.01), bool(std[1] > 10 * std[0])
    (True, True)
    """

    def __init__(
        self,
        depth: int | tuple[int, ...] = DEPTHS,
        activation: str = "relu",
        W_std: float = math.sqrt(2.0),
        b_std: float = DEFAULT_B_STD,
        noise: float | tuple[float, ...] = RIDGES,
        kernel: Get = "ntk",
        standardize: bool = True,
        model: Model | None = None,
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.W_std = W_std
        self.b_std = b_std
        self.noise = noise
        self.kernel = kernel
        self.standardize = standardize
        self.model = model

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to inputs (n, d) and targets (n,) or (n, k)."""
        X, y = validate_data(
            self, X, y, dtype=np.float64, y_numeric=True, multi_output=True, ensure_min_samples=2
        )
        targets = columns(y)
        self.mean_ = targets.mean(axis=0)
        noises = positive(self.noise, "noise")
        self.log_marginal_likelihood_ = -math.inf
        for network, spectrum in self._spectra(X):
            for noise in noises:
                process = spectrum.process(targets - self.mean_, noise)
                if process.log_likelihood > self.log_marginal_likelihood_:
                    self._keep(network, spectrum, noise, process)
        self.one_target_ = np.ndim(y) == 1
        return self

    def _keep(self, network: Model, spectrum: Spectrum, noise: float, process: Process) -> None:
        self.model_, self.noise_, self.log_marginal_likelihood_ = network, noise, process.log_likelihood
        self.dual_coef_, self.amplitude_ = process.dual, process.amplitude
        self.noise_std_ = np.sqrt(process.amplitude * noise * spectrum.scale)
        self._spectrum = spectrum

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:
        """The mean (m,) or (m, k) at inputs (m, d).

        Args:
            return_std: add the standard deviations of the function, without noise, of the shape of the mean.
            return_cov: add its covariances (m, m) or (m, m, k).
        """
        if return_std and return_cov:
            raise ValueError("ask for one of return_std and return_cov: the first is in the second")
        x = self._validated(X)
        kernel = self._kernel_with_training(x)
        mean = self._shaped(kernel @ self.dual_coef_ + self.mean_)
        if not (return_std or return_cov):
            return mean
        explained = kernel @ self._spectrum.whitener(self.noise_)
        if return_cov:
            left = gram(self.model_, x, None, self.kernel) - explained @ explained.T
            return mean, self._shaped(left[..., None] * self.amplitude_)
        left = diagonal(self.model_, x, self.kernel) - (explained**2).sum(axis=1)
        return mean, self._shaped(np.sqrt(np.maximum(left, 0.0)[:, None] * self.amplitude_))

    def _shaped(self, found: Array) -> Array:
        return found[..., 0] if self.one_target_ else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
