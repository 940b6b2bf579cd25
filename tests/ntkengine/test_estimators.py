"""scikit-learn's own checks of the estimators, their closed forms by refitting, and small tables."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import WhiteKernel
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import scale
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import estimator_checks_generator

from ntkengine import Dense, Erf, Model
from ntkengine.estimators import (
    NTKClassifier,
    NTKGaussianProcessRegressor,
    NTKKernel,
    NTKRegressor,
    fully_connected,
)
from ntkengine.estimators.kernel import gram

rng = np.random.default_rng


# These want pandas, or a setting of scipy made before its import; without them they skip themselves.
NOT_HERE = {
    "check_array_api_input",
    "check_classifier_data_not_an_array",
    "check_regressor_data_not_an_array",
}
CHECKS = [
    pytest.param(estimator, check, id=f"{type(estimator).__name__}-{check.func.__name__}-{index}")
    for estimator in (NTKRegressor(), NTKClassifier(), NTKGaussianProcessRegressor())
    for index, (_, check) in enumerate(estimator_checks_generator(estimator))
    if check.func.__name__ not in NOT_HERE
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learns_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def test_left_out_errors_are_those_of_refitting() -> None:
    X, y = load_diabetes(return_X_y=True)
    X, y = scale(X[:30]), np.stack([y[:30], y[:30] ** 2], axis=1)
    plain = NTKRegressor(depth=2, ridge=0.03, standardize=False)
    left_out = []
    for i in range(30):
        others = np.arange(30) != i
        # the ridge is relative to the mean diagonal, which differs a little without the sample
        diagonal = gram(plain.fit(X, y).model_, X, None, "ntk").diagonal()
        one = clone(plain).set_params(ridge=0.03 * diagonal.mean() / diagonal[others].mean())
        left_out.append(y[i] - one.fit(X[others], y[others]).predict(X[i : i + 1])[0])
    np.testing.assert_allclose(np.mean(np.square(left_out)), plain.loo_error_, rtol=1e-9)


def test_the_function_minimises_what_it_says() -> None:
    X, y = rng(0).normal(size=(12, 3)), rng(1).normal(size=12)
    found = NTKRegressor(depth=1, ridge=0.1, standardize=False).fit(X, y)
    K = gram(found.model_, X, None, "ntk")
    system = np.block([[K + 0.1 * np.trace(K) / 12 * np.eye(12), np.ones((12, 1))], [np.ones((1, 12)), 0]])
    expected = np.linalg.solve(system, np.append(y, 0.0))  # stationarity in dual and intercept
    np.testing.assert_allclose(np.append(found.dual_coef_, found.intercept_), expected, rtol=1e-8, atol=1e-12)


def test_the_candidate_of_the_smallest_error_is_taken() -> None:
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:100], y[:100]
    best = NTKRegressor().fit(X, y)
    each = [
        NTKRegressor(depth=depth, ridge=ridge).fit(X, y)
        for depth in NTKRegressor().depth  # type: ignore[union-attr]
        for ridge in NTKRegressor().ridge  # type: ignore[union-attr]
    ]
    assert best.loo_error_ == pytest.approx(min(one.loo_error_ for one in each), rel=1e-12)
    assert len({one.loo_error_ for one in each}) == len(each)


def test_a_model_of_ones_own_and_the_nngp() -> None:
    X, y = load_diabetes(return_X_y=True)
    layers = (Dense(W_std=1.5, b_std=0.2), Erf(), Dense(width=1, W_std=1.5, b_std=0.2))
    own = NTKRegressor(model=Model(layers=layers), kernel="nngp").fit(X[:50], y[:50])
    named = NTKRegressor(depth=1, activation="erf", W_std=1.5, b_std=0.2, kernel="nngp").fit(X[:50], y[:50])
    np.testing.assert_array_equal(own.predict(X[50:60]), named.predict(X[50:60]))
    other = clone(own).set_params(kernel="ntk").fit(X[:50], y[:50])
    assert not np.allclose(own.predict(X[50:60]), other.predict(X[50:60]))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ridge": 0.0}, "ridge"),
        ({"ridge": (1.0, -1.0)}, "ridge"),
        ({"activation": "no such"}, "no such"),
        ({"depth": ()}, "depth"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        NTKRegressor(**wrong).fit([[0.0], [1.0]], [0.0, 1.0])


def test_the_gaussian_process_is_scikit_learns() -> None:
    X, y = load_diabetes(return_X_y=True)
    X, y, new = scale(X)[:60], y[:60] - y[:60].mean(), scale(X)[60:65]
    ours = NTKGaussianProcessRegressor(depth=(1, 2, 3), kernel="nngp", standardize=False).fit(X, y)
    depth = (len(ours.model_.layers) - 1) // 2
    noise = float(ours.noise_std_[0] ** 2)
    prior = float(ours.amplitude_[0]) * NTKKernel(depth=depth, get="nngp") + WhiteKernel(noise)
    peer = GaussianProcessRegressor(prior, optimizer=None).fit(X, y)
    assert peer.log_marginal_likelihood_value_ == pytest.approx(ours.log_marginal_likelihood_, rel=1e-9)
    mean, covariance = ours.predict(new, return_cov=True)
    peers_mean, peers_covariance = peer.predict(new, return_cov=True)
    np.testing.assert_allclose(mean, peers_mean, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(covariance, peers_covariance - noise * np.eye(5), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours.predict(new, return_std=True)[1] ** 2, covariance.diagonal(), rtol=1e-6)


def test_bands_hold_what_they_should() -> None:
    # draws from the prior itself: 95 % of the new values are within 1.96 standard deviations of the mean
    X = rng(0).normal(size=(90, 2))
    K = gram(fully_connected(1, "relu", 2**0.5, 0.3), X, None, "ntk")
    y = np.linalg.cholesky(K + 1e-2 * np.trace(K) / 90 * np.eye(90)) @ rng(1).normal(size=(90, 60))
    process = NTKGaussianProcessRegressor(depth=1, noise=1e-2, standardize=False).fit(X[:60], y[:60])
    mean, std = process.predict(X[60:], return_std=True)
    within = np.abs(y[60:] - mean) < 1.96 * np.hypot(std, process.noise_std_)
    assert 0.93 < within.mean() < 0.97


def test_the_kernels_gradient_is_the_change_of_the_kernel() -> None:
    X = rng(0).normal(size=(6, 3))
    kernel = NTKKernel(depth=1, W_std=1.3, b_std=0.7, get="nngp")
    K, slopes = kernel(X, eval_gradient=True)
    # E relu(u) relu(v) is homogeneous of degree 2 in (W_std, b_std), times W_std^2 of degree 4; the last
    # bias adds b_std^2. Euler's theorem gives the sum of both slopes.
    np.testing.assert_allclose(slopes.sum(axis=-1), 4 * (K - 0.7**2) + 2 * 0.7**2, rtol=1e-9)
    # W_std = 0 leaves b_std^2, so that at small W_std the slope by log b_std is 2 b_std^2
    _, flat = NTKKernel(depth=1, W_std=1e-6, b_std=0.7, get="nngp")(X, eval_gradient=True)
    np.testing.assert_allclose(flat[..., 1], 2 * 0.7**2, rtol=1e-9)
    assert [h.name for h in kernel.hyperparameters] == ["W_std", "b_std"]


def test_the_kernels_diagonal() -> None:
    X = rng(0).normal(size=(150, 3))
    kernel = NTKKernel(depth=2)
    np.testing.assert_allclose(kernel.diag(X), kernel(X).diagonal(), rtol=1e-12)


def test_a_gaussian_process_of_scikit_learn_fits_the_kernel() -> None:
    X = np.linspace(-2, 2, 25)[:, None]
    y = np.sin(2 * X[:, 0]) + 0.1 * rng(0).normal(size=25)
    start = NTKKernel(depth=1, activation="erf") + WhiteKernel(0.1)
    process = GaussianProcessRegressor(start).fit(X, y)
    unfitted = GaussianProcessRegressor(start, optimizer=None).fit(X, y)
    assert process.log_marginal_likelihood_value_ > unfitted.log_marginal_likelihood_value_ + 1
    assert process.score(X, np.sin(2 * X[:, 0])) > 0.98


def test_support_vectors_with_the_kernel() -> None:
    X, y = load_iris(return_X_y=True)
    X = scale(X)
    called = SVC(kernel=NTKKernel(depth=2)).fit(X[::2], y[::2])
    K = gram(fully_connected(2, "relu", 2**0.5, 0.3), X, None, "ntk")
    given = SVC(kernel="precomputed").fit(K[::2, ::2], y[::2])
    np.testing.assert_array_equal(called.predict(X[1::2]), given.predict(K[1::2, ::2]))
    assert called.score(X[1::2], y[1::2]) > 0.93


def test_small_tables() -> None:
    # benchmarks/tables.py has the comparison with tuned support vectors; here, that the defaults do well
    for load, least in ((load_iris, 0.93), (load_wine, 0.96)):
        assert cross_val_score(NTKClassifier(), *load(return_X_y=True), cv=5).mean() > least
    X, y = load_diabetes(return_X_y=True)
    assert cross_val_score(NTKRegressor(), X, y, cv=5).mean() > 0.47
