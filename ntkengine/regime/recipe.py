"""How a user's module is trained, and the same with one assumption of the theory restored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

OptimizerFactory: TypeAlias = "Callable[[Iterable[Tensor]], Optimizer]"
LossFunction: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"

FINER = 8  # times smaller steps, as many more of them: what stands for gradient flow
LONGEST = 20  # times as many steps may plain descent take to the loss that the optimiser has reached


@dataclass(frozen=True)
class Recipe:
    """How a module is trained; each assumption of the theory is restored by one change of it."""

    optimizer: OptimizerFactory
    loss: LossFunction
    y: Tensor
    steps: int
    batch: int
    finer: int = 1
    until: float | None = None  # a loss on all points at which to stop

    def train(
        self, module: nn.Module, x: Tensor, at: Sequence[int], watched: Tensor, seed: int
    ) -> list[Tensor]:
        """Train in place; the outputs on the watched inputs after that many steps."""
        import torch

        optimizer = self.optimizer(list(module.parameters()))
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] / self.finer
        found = [outputs(module, watched)] if 0 in at else []
        for step in range(self.steps):
            rows = torch.from_numpy(chosen(len(x), self.batch, step, seed))
            for _ in range(self.finer):
                optimizer.zero_grad()
                self.loss(module(x[rows]), self.y[rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if step + 1 in at:
                found.append(outputs(module, watched))
            if self.until is not None and self.value(module, x) <= self.until:
                break
        return found

    def value(self, module: nn.Module, x: Tensor) -> float:
        """The loss on all points."""
        return float(self.loss(outputs(module, x), self.y))


def chosen(m: int, size: int, step: int, seed: int) -> np.ndarray:
    """The points of a step: all of them, or a part of a new order each epoch."""
    if size >= m:
        return np.arange(m)
    epoch, index = divmod(step, -(-m // size))
    return np.random.default_rng([seed, epoch]).permutation(m)[index * size : (index + 1) * size]


def outputs(module: nn.Module, x: Tensor) -> Tensor:
    """Outputs, without a graph."""
    import torch

    with torch.no_grad():
        found: Tensor = module(x)
    return found.detach().clone()


def linearized(module: nn.Module) -> nn.Module:
    """`f(x; theta_0) + sum_p (theta_p - theta_0p) df/dtheta_p(x; theta_0)`, parameters in the same order."""
    import torch
    from torch.func import functional_call, jvp

    class Linearized(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.names = [name for name, _ in module.named_parameters()]
            self.start = {name: p.detach().clone() for name, p in module.named_parameters()}
            self.moved = torch.nn.ParameterList(p.detach().clone() for p in module.parameters())

        def forward(self, x: Tensor) -> Tensor:
            along = {n: p - self.start[n] for n, p in zip(self.names, self.moved, strict=True)}
            found = jvp(lambda p: functional_call(module, p, (x,)), (self.start,), (along,))
            total: Tensor = found[0] + found[1]
            return total

    return Linearized()


def restored(recipe: Recipe, module: nn.Module, x: Tensor, kernel: Tensor, end: float) -> dict[str, Recipe]:
    """Recipes with one assumption of the theory restored, for those that are violated."""
    found = {"gradient_flow": replace(recipe, finer=FINER)}
    if recipe.batch < len(x):
        found["full_batch"] = replace(recipe, batch=len(x))
    optimizer = recipe.optimizer(list(module.parameters()))
    if not is_plain(optimizer):
        found["plain_descent"] = plain(recipe, optimizer, module, x, kernel, end)
    if not is_squared(recipe, outputs(module, x)):
        found["squared_loss"] = squared(recipe, outputs(module, x))
    return found


def is_plain(optimizer: Optimizer) -> bool:
    """Whether an optimiser is gradient descent and nothing else."""
    import torch

    extras = ("momentum", "weight_decay", "nesterov", "dampening")
    return isinstance(optimizer, torch.optim.SGD) and not any(
        group.get(name) for group in optimizer.param_groups for name in extras
    )


def plain(
    recipe: Recipe, optimizer: Optimizer, module: nn.Module, x: Tensor, kernel: Tensor, end: float
) -> Recipe:
    """Gradient descent for the same time; or, of optimisers that have no such time, to the same loss."""
    import torch

    group, stable = optimizer.param_groups[0], stable_rate(recipe, outputs(module, x), kernel)
    if isinstance(optimizer, torch.optim.SGD):
        rate = group["lr"] / (1.0 - group["momentum"])
        finer = max(1, math.ceil(rate / stable))
        return replace(recipe, optimizer=lambda p: torch.optim.SGD(p, lr=rate), finer=finer)
    return replace(
        recipe, optimizer=lambda p: torch.optim.SGD(p, lr=stable), steps=LONGEST * recipe.steps, until=end
    )


def stable_rate(recipe: Recipe, f: Tensor, kernel: Tensor) -> float:
    """Half of the largest stable rate of the linearized network, `1 / (l_max(Theta) l_max(d^2 L / df^2))`,
    with the loss of as many points as a step uses: a mean over few is curved more than one over all."""
    import torch

    from ntkengine.predict.modes import square

    some = slice(0, recipe.batch)
    hessian = torch.autograd.functional.hessian(lambda g: recipe.loss(g, recipe.y[some]), f[some])  # type: ignore[no-untyped-call]
    curvature = float(torch.linalg.eigvalsh(hessian.reshape(f[some].numel(), -1))[-1])
    high = float(torch.linalg.eigvalsh(square(kernel))[-1])
    return 1.0 / max(high * curvature, 1e-300)


def is_squared(recipe: Recipe, f: Tensor) -> bool:
    """Whether the loss is a multiple of the sum of squares: its gradient in f is, at f and elsewhere."""
    import torch

    if recipe.y.shape != f.shape or not recipe.y.is_floating_point():
        return False
    ratios = []
    for point in (f, f + 1.0, recipe.y - 2.0):
        g = point.detach().requires_grad_()
        (slope,) = torch.autograd.grad(recipe.loss(g, recipe.y), g)
        error = (g - recipe.y).detach()
        factor = float((slope * error).sum() / (error**2).sum())
        if not torch.allclose(slope, factor * error, rtol=1e-4, atol=1e-6 * float(slope.abs().max())):
            return False
        ratios.append(factor)
    return float(np.ptp(ratios)) <= 1e-4 * abs(ratios[0])


def squared(recipe: Recipe, f: Tensor) -> Recipe:
    """The mean of squares in place of the loss, on one-hot targets where they are classes."""
    import torch

    y = recipe.y
    if y.shape != f.shape:
        y = torch.nn.functional.one_hot(y.long().flatten(), f.shape[-1]).reshape(f.shape)
    return replace(recipe, loss=torch.nn.functional.mse_loss, y=y.to(f.dtype))
