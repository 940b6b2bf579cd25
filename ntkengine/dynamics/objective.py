"""Networks on data with a loss: what their weights do to outputs and loss, for all members at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ntkengine.dynamics.losses import Loss

Function = Callable[[Tensor, Any, Tensor], Tensor]
"""`(theta (P,), fixed, x (n, d)) -> (n, k)`, pure: outputs of one member; `fixed` is not trained."""


@dataclass(frozen=True)
class Problem:
    """What is trained on, and where else the function is watched."""

    loss: Loss
    x: Tensor
    y: Tensor
    x_test: Tensor | None = None
    y_test: Tensor | None = None

    def inputs(self) -> dict[str, Tensor]:
        """The inputs on which quantities are recorded, by the suffix of their names."""
        return {"": self.x} | ({} if self.x_test is None else {"_test": self.x_test})

    def targets(self) -> dict[str, Tensor]:
        """The targets, by the same suffixes."""
        return {"": self.y} | ({} if self.y_test is None else {"_test": self.y_test})


@dataclass(frozen=True)
class Gradient:
    """`grad L` (S, P) and the losses (S,), both where it was taken."""

    theta: Tensor
    loss: Tensor


@dataclass(frozen=True)
class Objective:
    """The losses of S members on one problem as functions of their weights, a matrix theta (S, P).

    Members share the function and the problem; `fixed` has a leading axis S. `rates` (P,) are the factors
    on the learning rate of each number: N^-c from the parameterization, times those of the spec.
    """

    function: Function
    fixed: Any
    problem: Problem
    rates: Tensor

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Outputs (S, n, k), differentiable in theta (S, P)."""
        if len(theta) == 1:  # a batch of one costs twice as much as a call
            return self.function(theta[0], tree_map(lambda part: part[0], self.fixed), x)[None]
        outputs: Tensor = torch.vmap(self.function, in_dims=(0, 0, None))(theta, self.fixed, x)
        return outputs

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        """Outputs (S, n, k)."""
        with torch.no_grad():
            return self(theta, x)

    def losses(self, theta: Tensor) -> Tensor:
        """Training losses (S,)."""
        return self.problem.loss.value(self.outputs(theta, self.problem.x), self.problem.y)

    def gradient(self, theta: Tensor, rows: Tensor | None = None) -> Gradient:
        """`grad L` of the loss on some rows of the training data, or on all of them."""
        x, y = self.problem.x, self.problem.y
        if rows is not None:
            x, y = x[rows], y[rows]
        with torch.enable_grad():
            theta = theta.detach().requires_grad_()
            losses = self.problem.loss.value(self(theta, x), y)
            (gradient,) = torch.autograd.grad(losses.sum(), theta)
        return Gradient(gradient, losses.detach())

    def derivative_along(self, theta: Tensor, x: Tensor, direction: Tensor) -> Tensor:
        """`df(x) / dt` (S, n, k) as weights move along `direction` (S, P): a Jacobian-vector product.

        Taken as the derivative of the vector-Jacobian product, which is linear in its vector: two
        backward passes cost far less here than torch's forward mode.
        """
        with torch.enable_grad():
            theta = theta.detach().requires_grad_()
            f = self(theta, x)
            vector = torch.zeros_like(f, requires_grad=True)
            (pulled,) = torch.autograd.grad(f, theta, vector, create_graph=True)
            (tangent,) = torch.autograd.grad((pulled * direction).sum(), vector)
        return tangent

    def only(self, member: int) -> Objective:
        """That of one member."""
        return replace(self, fixed=tree_map(lambda part: part[member : member + 1], self.fixed))
