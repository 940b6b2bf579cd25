"""Taylor expansions of a network in its weights: the objectives of linearized twins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ntkengine.dynamics.objective import Function, Objective

Path = Callable[[Tensor], Tensor]


def taylor(objective: Objective, theta: Tensor, order: int) -> Objective:
    """The objective of the expansions around weights theta_0 = theta (S, P),
    `f_p(x; theta_0 + d) = sum_(j <= p) 1/j! sum_(i_1 ... i_j) d_i1 ... d_ij D_i1 ... D_ij f(x; theta_0)`.

    D_i is the derivative by weight number i. Order 1 is the linearized network, whose kernel is constant.
    """
    return replace(
        objective,
        function=expansion(objective.function, order),
        fixed={"around": theta, "fixed": objective.fixed},
    )


def expansion(function: Function, order: int) -> Function:
    """The polynomial of a function, by nested directional derivatives along the straight line to theta."""

    def polynomial(theta: Tensor, fixed: Any, x: Tensor) -> Tensor:
        start = fixed["around"]
        along = theta - start

        def path(s: Tensor) -> Tensor:
            return function(start + s * along, fixed["fixed"], x)

        origin = theta.new_zeros(())
        derivative: Path = path
        total = path(origin)
        for j in range(1, order + 1):
            derivative = derived(derivative)
            total = total + derivative(origin) / math.factorial(j)
        return total

    return polynomial


def derived(path: Path) -> Path:
    """The derivative of a path (n, k).

    Taken as the derivative of `v -> sum_ia v_ia dpath_ia/ds`, which is linear in v: forward mode gives
    the same numbers, but takes torch 2 to 7 times as long here.
    """

    def derivative(s: Tensor) -> Tensor:
        value, pull, *_ = torch.func.vjp(path, s)
        result: Tensor = torch.func.grad(lambda v: pull(v)[0])(torch.zeros_like(value))
        return result

    return derivative
