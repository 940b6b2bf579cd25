"""Wide networks trained with squared loss, in closed form: regression and classification."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from ntkengine.estimators.base import DEPTHS, RIDGES, Estimator, columns, positive
from ntkengine.estimators.kernel import DEFAULT_B_STD, Get
from ntkengine.estimators.spectrum import Ridge
from ntkengine.model import Model

Array = NDArray[np.float64]


class RidgeEstimator(Estimator):
    """Kernel ridge regression with a free intercept; network and ridge are those of the smallest squared
    leave-one-out error, which has a closed form.

    Args:
        depth: hidden layers; several to choose from.
        activation: the `kind` of an activation, such as `relu`, `erf` or `gelu`.
        W_std: multiplier of every weight.
        b_std: multiplier of every bias.
        ridge: ridge, in units of the kernel's mean diagonal; several to choose from.
        kernel: `ntk`: the network trained by gradient flow (with ridge: held near its start);
            `nngp`: its last layer alone.
        standardize: whether columns are shifted and scaled to mean 0 and variance 1.
        model: any other network for inputs (n, d), in place of depth, activation, W_std and b_std.

    Attributes:
        model_, ridge_: what was chosen.
        loo_error_: its mean squared leave-one-out error.
        dual_coef_, intercept_: of the function.
    """

    def __init__(
        self,
        depth: int | tuple[int, ...] = DEPTHS,
        activation: str = "relu",
        W_std: float = math.sqrt(2.0),
        b_std: float = DEFAULT_B_STD,
        ridge: float | tuple[float, ...] = RIDGES,
        kernel: Get = "ntk",
        standardize: bool = True,
        model: Model | None = None,
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.W_std = W_std
        self.b_std = b_std
        self.ridge = ridge
        self.kernel = kernel
        self.standardize = standardize
        self.model = model

    def _train(self, X: Array, y: Array) -> None:
        """Take the candidate that leaves the smallest error; y of shape (n, k)."""
        ridges = positive(self.ridge, "ridge")
        least = math.inf
        for network, spectrum in self._spectra(X):
            for ridge in ridges:
                trained = spectrum.ridge(y, ridge)
                error = float(np.mean(trained.left_out**2))
                if error < least:
                    least = error
                    self._keep(network, ridge, trained, error)

    def _keep(self, network: Model, ridge: float, trained: Ridge, error: float) -> None:
        self.model_, self.ridge_, self.loo_error_ = network, ridge, error
        self.dual_coef_, self.intercept_ = trained.dual, trained.intercept

    def _function(self, X: Any) -> Array:
        """The function (m, k)."""
        kernel = self._kernel_with_training(self._validated(X))
        return np.asarray(kernel @ self.dual_coef_ + self.intercept_)


class NTKRegressor(RegressorMixin, RidgeEstimator):  # type: ignore[misc]
    """Regression by a wide network at the end of its training, with squared loss; parameters and attributes
    as in `RidgeEstimator`. Several targets (n, k) are fitted at once, with one network and ridge.

    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> NTKRegressor().fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.45
    True
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to inputs (n, d) and targets (n,) or (n, k)."""
        X, y = validate_data(
            self, X, y, dtype=np.float64, y_numeric=True, multi_output=True, ensure_min_samples=2
        )
        self._train(X, columns(y))
        self.one_target_ = np.ndim(y) == 1
        return self

    def predict(self, X: Any) -> Array:
        """The targets (m,) or (m, k) at inputs (m, d)."""
        found = self._function(X)
        return found[:, 0] if self.one_target_ else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class NTKClassifier(ClassifierMixin, RidgeEstimator):  # type: ignore[misc]
    """Classification by a wide network at the end of its training on +-1, one output a class, with squared
    loss; parameters and attributes as in `RidgeEstimator`.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> NTKClassifier().fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9
    True
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to inputs (n, d) and labels (n,)."""
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        binarizer = LabelBinarizer(neg_label=-1, pos_label=1).fit(y)
        self.classes_ = binarizer.classes_
        if len(self.classes_) < 2:
            raise ValueError("the labels are all of one class: give samples of two classes at least")
        self._train(X, columns(binarizer.transform(y)))
        return self

    def decision_function(self, X: Any) -> Array:
        """The network's outputs (m, classes), or (m,) for the second of two classes."""
        found = self._function(X)
        return found[:, 0] if found.shape[1] == 1 else found

    def predict(self, X: Any) -> Any:
        """The labels (m,)."""
        scores = self.decision_function(X)
        index = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[index]
