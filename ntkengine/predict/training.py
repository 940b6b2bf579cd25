"""Training in closed form, of one network, or of the mean over many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ntkengine.losses import AnyLoss, HalfSum
from ntkengine.predict.evolution import Descent, Evolution, Flow
from ntkengine.predict.modes import Diagnostics, Solution, columns, solution, square

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Trajectory:
    """Outputs `train` (T, n, k) and `test` (T, m, k) at the moments that were asked for."""

    moments: tuple[float, ...]  # times, or numbers of steps
    train: Tensor
    test: Tensor | None
    diagnostics: Diagnostics
    rate_factor: float
    warnings: tuple[str, ...]


def gradient_flow(
    k_train_train: Tensor,
    y: Tensor,
    k_test_train: Tensor | None = None,
    *,
    times: Sequence[float],
    f0_train: Tensor | float = 0.0,
    f0_test: Tensor | float = 0.0,
    loss: AnyLoss | None = None,
    ridge: float = 0.0,
    entry_error: float = 0.0,
) -> Trajectory:
    """Outputs under gradient flow with a constant kernel:

    `f(x, t) = f(x, 0) - sum_j K(x, X) u_j (1 - e^(-c (l_j + ridge) t)) / (l_j + ridge) u_j^T (f(X, 0) - y)`,

    l, u the eigenvalues and eigenvectors of K(X, X), c the rate factor of the loss. Eigenvalues that rounding
    has made negative are taken as 0, where the factor is `c t`.

    Args:
        k_train_train: K(X, X), (n, n) for independent outputs, or blocks (n, n, k, k).
        y: targets (n, k).
        k_test_train: K(x, X), (m, n) or (m, n, k, k); None: no test points.
        times: T times in the loss's unit; `math.inf` is the end of training, where modes with eigenvalues up
            to `rcond lambda_max` (stated in the diagnostics) stay as they were: a pseudo-inverse.
        f0_train: outputs at the start, (n, k) or a number.
        f0_test: outputs at the start, (m, k) or a number.
        loss: a squared loss; half_sum by default.
        ridge: penalty `c ridge / 2 |theta - theta_0|^2` beside the loss. Test outputs are those of ridge
            regression, and of a kernel with the ridge on its diagonal; training outputs tend to
            `K (K + ridge)^-1 y`, not to y.
        entry_error: bounds the error of the kernel's entries beyond rounding, relative to the largest.

    Raises:
        NumericalError: the kernel has an eigenvalue too far below 0.
        SpecError: shapes do not fit, or the loss is not squared.

    Source: Jacot et al. (2018), section 5; Lee et al. (2019), eqs. 8-9.

    >>> import math, torch
    >>> K = torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)  # the second point cannot be learned
    >>> y = torch.ones(2, 1, dtype=torch.float64)
    >>> gradient_flow(K, y, times=[0.0, math.log(2) / 2, math.inf]).train[:, :, 0].tolist()
    [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]
    """
    evolution = Flow(times=tuple(times), loss=loss or HalfSum())
    found = solution(k_train_train, y, evolution, ridge=ridge, entry_error=entry_error)
    return follow(found, k_train_train, y, k_test_train, f0_train, f0_test)


def gradient_descent(
    k_train_train: Tensor,
    y: Tensor,
    k_test_train: Tensor | None = None,
    *,
    learning_rate: float,
    steps: Sequence[int],
    momentum: float = 0.0,
    f0_train: Tensor | float = 0.0,
    f0_test: Tensor | float = 0.0,
    loss: AnyLoss | None = None,
    ridge: float = 0.0,
    entry_error: float = 0.0,
) -> Trajectory:
    """Outputs after discrete steps with a constant kernel, exactly: `e^(-c l t)` of the flow becomes
    `(1 - learning_rate c l)^i`, and with momentum the power of a 2 x 2 matrix for each mode.

    Args:
        learning_rate: step size; at `2 (1 + momentum) / (c (lambda_max + ridge))` and above, the error grows,
            of which a warning says so.
        steps: numbers of steps after which to predict.
        momentum: beta of `v <- beta v + grad, theta <- theta - learning_rate v`, v = 0 at the start (torch's
            SGD without dampening).

    Other arguments and errors as in `gradient_flow`.

    >>> import torch
    >>> K, y = torch.eye(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    >>> gradient_descent(K, y, learning_rate=0.5, steps=[0, 1, 2]).train.flatten().tolist()
    [0.0, 0.5, 0.75]
    """
    evolution = Descent(
        learning_rate=learning_rate, steps=tuple(steps), momentum=momentum, loss=loss or HalfSum()
    )
    found = solution(k_train_train, y, evolution, ridge=ridge, entry_error=entry_error)
    return follow(found, k_train_train, y, k_test_train, f0_train, f0_test)


def evolve(
    evolution: Evolution,
    k_train_train: Tensor,
    y: Tensor,
    k_test_train: Tensor | None = None,
    *,
    f0_train: Tensor | float = 0.0,
    f0_test: Tensor | float = 0.0,
    ridge: float = 0.0,
    entry_error: float = 0.0,
) -> Trajectory:
    """`gradient_flow` and `gradient_descent` for an evolution as an object, such as `MomentumFlow`."""
    found = solution(k_train_train, y, evolution, ridge=ridge, entry_error=entry_error)
    return follow(found, k_train_train, y, k_test_train, f0_train, f0_test)


def follow(
    found: Solution,
    k_train_train: Tensor,
    y: Tensor,
    k_test_train: Tensor | None,
    f0_train: Tensor | float,
    f0_test: Tensor | float,
) -> Trajectory:
    """The trajectory of a solution from outputs at the start."""
    n, k = y.shape
    errors = columns(k_train_train, y.new_zeros(n, k) + f0_train - y)
    moments = found.evolution.moments
    left = found.train(errors).reshape(len(moments), n, k)
    test = None
    if k_test_train is not None:
        change = found.change(square(k_test_train), errors)
        test = change.reshape(len(moments), -1, k) + f0_test
    return Trajectory(moments, y + left, test, found.modes.diagnostics, found.rate_factor, found.warnings())
