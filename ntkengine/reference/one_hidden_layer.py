"""The NTK of one hidden layer, written out neuron by neuron."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]


def explicit_ntk(
    x1: Array, x2: Array, w: Array, b: Array, v: Array, scale: float, s: Function, ds: Function
) -> Array:
    """`C^2 sum_i [s s' + (1 + x.x') v_i^2 ds ds']` for `f(x) = C sum_i v_i s(w_i . x + b_i)`, (n1, n2).

    w has shape (N, d), b and v (N,); the derivatives are with respect to w, b and v.
    """
    z1, z2 = x1 @ w.T + b, x2 @ w.T + b
    features = s(z1) @ s(z2).T
    gradients = (ds(z1) * v**2) @ ds(z2).T
    return scale**2 * (features + (1.0 + x1 @ x2.T) * gradients)
