"""Losses without a closed form: the outputs' own differential equation, by an adaptive solver."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ntkengine.errors import NumericalError, SpecError
from ntkengine.losses import Loss
from ntkengine.predict.modes import check_kernel, columns, square

if TYPE_CHECKING:
    from torch import Tensor


LEAST_SPAN = 1e-20  # of time: the solver does not return from spans of 0, or near the least floats


@dataclass(frozen=True)
class Integrated:
    """Outputs `train` (T, n, k) and `test` (T, m, k) at the times, and what the solver says of its work."""

    times: tuple[float, ...]
    train: Tensor
    test: Tensor | None
    solver: dict[str, Any]


def integrate(
    k_train_train: Tensor,
    y: Tensor,
    k_test_train: Tensor | None = None,
    *,
    times: Sequence[float],
    loss: Loss,
    f0_train: Tensor | float = 0.0,
    f0_test: Tensor | float = 0.0,
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> Integrated:
    """Gradient flow of any loss with a constant kernel: `df(x)/dt = -sum_j K(x, x_j) dL/df(x_j)`.

    What is integrated is `a_j(t) = integral of dL/df(x_j)`, so that `f(x, t) = f(x, 0) - K(x, X) a(t)` on any
    points. The solver is LSODA, which turns to an implicit method where the equation is stiff.

    Args:
        times: T finite times, in any order: most other losses have no end of training.
        loss: with `derivative(f, y)`.
        rtol, atol: tolerances of a step, for a.

    Other arguments as in `gradient_flow`.

    Raises:
        SpecError: a time is infinite, or shapes do not fit.
        NumericalError: the solver gave up.

    Source: Lee et al. (2019), section 2.2, eqs. 5-6.

    >>> import torch
    >>> from ntkengine import HalfSum
    >>> K, y = torch.eye(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    >>> round(integrate(K, y, times=[math.log(2)], loss=HalfSum()).train.item(), 7)
    0.5
    """
    import numpy as np
    import torch
    from scipy.integrate import solve_ivp

    check_kernel(k_train_train, y)
    if not all(math.isfinite(time) for time in times):
        raise SpecError(
            f"with the loss {loss.kind} training has no end in closed form",
            pointer="/training/times",
            hint="give finite times",
        )
    n, k = y.shape

    def pull(kernel: Tensor, a: Tensor) -> Tensor:
        """`sum_j K(x, x_j) a_j` (m, k)."""
        return (square(kernel) @ columns(kernel, a)).reshape(len(kernel), k)

    def derivative(_: float, a: Any) -> Any:
        f = f0_train - pull(k_train_train, y.new_tensor(a).reshape(n, k))
        return loss.derivative(f, y).reshape(-1).numpy()

    asked = np.unique(times)
    found = solve_ivp(
        derivative,
        (0.0, max(float(asked[-1]), LEAST_SPAN)),
        np.zeros(n * k),
        method="LSODA",
        t_eval=asked,
        rtol=rtol,
        atol=atol,
    )
    if not found.success:
        raise NumericalError(f"the solver gave up: {found.message}", hint="use earlier times")
    path = y.new_tensor(found.y.T[np.searchsorted(asked, times)]).reshape(-1, n, k)
    train = torch.stack([f0_train - pull(k_train_train, a) for a in path])
    test = None
    if k_test_train is not None:
        test = torch.stack([f0_test - pull(k_test_train, a) for a in path])
    return Integrated(tuple(times), train, test, {"evaluations": int(found.nfev), "rtol": rtol, "atol": atol})
