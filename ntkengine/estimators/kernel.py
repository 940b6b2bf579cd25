"""The kernel of a fully connected network, for whoever takes a scikit-learn kernel."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from ntkengine.model import Model
from ntkengine.spec import from_jsonable

Array = NDArray[np.float64]
Get = Literal["ntk", "nngp"]

STEP = 1e-3  # in the logarithm of a hyperparameter: truncation and rounding are then both below 1e-11
STENCIL = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}  # derivative, to order 4
BLOCK = 64  # inputs; of their pairs only the diagonal is wanted
DEFAULT_B_STD = 0.3


def fully_connected(depth: int, activation: str, W_std: float, b_std: float) -> Model:
    """A network of `depth` hidden layers in the NTK parameterization, with one output.

    Args:
        activation: the `kind` of an activation, such as `relu`, `erf` or `gelu`.
    """
    hidden = [{"kind": "dense", "W_std": W_std, "b_std": b_std}, {"kind": activation}]
    read_out = {"kind": "dense", "width": 1, "W_std": W_std, "b_std": b_std}
    model: Model = from_jsonable(Model, {"layers": [*hidden * depth, read_out]})
    return model


def rows(x: Any) -> Array:
    """Inputs as scikit-learn's kernels take them, (n, d)."""
    return np.atleast_2d(np.asarray(x, np.float64))


def gram(model: Model, x1: Array, x2: Array | None, get: Get) -> Array:
    """The infinite-width kernel (n1, n2) of numpy inputs (n1, d) and (n2, d)."""
    import torch

    from ntkengine.infinite import infinite_kernel

    inputs = [torch.from_numpy(np.array(x, np.float64)) for x in (x1, x2) if x is not None]
    kernel: Array = infinite_kernel(model, *inputs, get=(get,)).kernels[get].numpy()
    return kernel


def diagonal(model: Model, x: Array, get: Get) -> Array:
    """The kernel (n,) of each of n inputs with itself."""
    blocks = [x[start : start + BLOCK] for start in range(0, len(x), BLOCK)]
    return np.concatenate([gram(model, block, None, get).diagonal() for block in blocks])


class NTKKernel(Kernel):  # type: ignore[misc]
    """The infinite-width kernel of a fully connected network.

    As `GaussianProcessRegressor(kernel=NTKKernel())`, `W_std` and `b_std` are fitted; it composes with
    scikit-learn's kernels (`NTKKernel() + WhiteKernel()`). As `SVC(kernel=NTKKernel())` it stays as it is.
    Inputs should be standardised: the kernel is not stationary.

    Args:
        depth: hidden layers.
        activation: the `kind` of an activation.
        W_std: multiplier of every weight.
        b_std: multiplier of every bias.
        W_std_bounds: within which it is fitted, or "fixed".
        b_std_bounds: the same of `b_std`.
        get: `ntk`, or `nngp`: the covariance of the untrained network.

    >>> NTKKernel(depth=1, W_std=1.0, b_std=0.0, get="nngp")([[3.0, 4.0]]).round(12).tolist()  # |x|^2 / 2d
    [[6.25]]
    """

    def __init__(
        self,
        depth: int = 3,
        activation: str = "relu",
        W_std: float = math.sqrt(2.0),
        b_std: float = DEFAULT_B_STD,
        W_std_bounds: Any = (1e-2, 1e2),
        b_std_bounds: Any = (1e-3, 1e2),
        get: Get = "ntk",
    ) -> None:
        self.depth = depth
        self.activation = activation
        self.W_std = W_std
        self.b_std = b_std
        self.W_std_bounds = W_std_bounds
        self.b_std_bounds = b_std_bounds
        self.get = get

    @property
    def hyperparameter_W_std(self) -> Hyperparameter:  # noqa: N802 (scikit-learn finds it by this name)
        """Fitted by its logarithm."""
        return Hyperparameter("W_std", "numeric", self.W_std_bounds)

    @property
    def hyperparameter_b_std(self) -> Hyperparameter:
        """Fitted by its logarithm."""
        return Hyperparameter("b_std", "numeric", self.b_std_bounds)

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """The kernel (n1, n2), and with `eval_gradient` its derivatives (n1, n1, p) by the logarithms of
        the p hyperparameters that are not fixed, by differences of order 4.
        """
        x = rows(X)
        kernel = gram(self.model(), x, None if Y is None else rows(Y), self.get)
        if not eval_gradient:
            return kernel
        if Y is not None:
            raise ValueError("the gradient is that of the kernel of X with itself: leave Y out")
        slopes = [self._slope(direction, x) for direction in np.eye(len(self.theta))]
        return kernel, np.stack(slopes, axis=-1) if slopes else np.empty((*kernel.shape, 0))

    def model(self) -> Model:
        """The network."""
        return fully_connected(self.depth, self.activation, self.W_std, self.b_std)

    def _slope(self, direction: Array, x: Array) -> Array:
        shifted = {i: self.clone_with_theta(self.theta + i * STEP * direction) for i in STENCIL}
        parts = [weight * gram(shifted[i].model(), x, None, self.get) for i, weight in STENCIL.items()]
        return np.asarray(sum(parts) / STEP)

    def diag(self, X: Any) -> Array:
        """The kernel (n,) of each input with itself."""
        return diagonal(self.model(), rows(X), self.get)

    def is_stationary(self) -> bool:
        """False: it depends on the lengths of the inputs."""
        return False
