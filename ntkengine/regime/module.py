"""The regime of a user's own module under its own optimiser, and what each assumption of the theory costs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkengine.errors import SpecError
from ntkengine.regime.rows import Row, interval, lowest
from ntkengine.regime.sentences import PARTS, percent, reasons
from ntkengine.regime.thresholds import DEFINITIONS, THRESHOLDS, verdict

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    OptimizerFactory = Callable[[Iterable[Tensor]], Optimizer]
    LossFunction = Callable[[Tensor, Tensor], Tensor]

FINER = 8  # times smaller steps, as many more of them: what stands for gradient flow
LONGEST = 20  # times as many steps may plain descent take to the loss that the optimiser has reached
MOMENTS = 16  # at which outputs are compared, evenly spaced in the logarithm of steps


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


def regime_of_module(
    module: nn.Module | Callable[[], nn.Module],
    x: Tensor,
    y: Tensor,
    *,
    optimizer: OptimizerFactory,
    loss: LossFunction,
    steps: int,
    batch_size: int | None = None,
    x_test: Tensor | None = None,
    seeds: int = 3,
) -> Row:
    """The regime of a module of one's own, trained by the optimiser and the loss that are really used.

    Copies are trained: the module; its linearization, by the same optimiser; and for each assumption of the
    theory that does not hold, the module with that assumption alone restored. How far its outputs then are
    from the real ones in the end, over how far training moved these, is what the assumption contributes:

    - `gradient_flow`: steps 8 times smaller, 8 times as many. Violated by every optimiser that makes steps.
    - `full_batch`: all points in each step.
    - `plain_descent`: gradient descent without momentum, decay or adaptive steps; for `torch.optim.SGD` with
      the rate lr / (1 - momentum), in finer steps where that is unstable, for others until the same training
      loss is reached.
    - `squared_loss`: `mean (f - y)^2`, on one-hot targets where y are classes, by the same optimiser.

    Args:
        module: a module, or a function that makes one anew from torch's global seed, called once a seed.
        x: inputs (m, ...).
        y: targets, as the loss takes them.
        optimizer: `parameters -> torch.optim.Optimizer`.
        loss: `(outputs, targets) -> scalar`, such as `torch.nn.functional.mse_loss`.
        steps: of the optimiser.
        batch_size: points in a step; all by default.
        x_test: inputs (n, ...) on which outputs are compared too.
        seeds: how many starts; with a module in place of a function, how many orders of its batches.

    Returns:
        The report as of `regime_report`, for the module's own width alone, with `contribution` in
        `assumptions`: {train, test}, medians with intervals.

    >>> import torch
    >>> def make():
    ...     layers = torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
    ...     return torch.nn.Sequential(*layers).double()
    >>> x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    >>> report = regime_of_module(make, x, x**2, optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
    ...                           loss=torch.nn.functional.mse_loss, steps=100)
    >>> [each["assumption"] for each in report["assumptions"] if not each["holds"]]
    ['gradient_flow']
    """
    if seeds < 2 or steps < 1:
        raise SpecError("an interval needs at least 2 seeds and a step", hint="use seeds=3 and some steps")
    recipe = Recipe(optimizer, loss, y, steps, batch_size or len(x))
    found = [Member(made(module, seed), recipe, x, x_test, seed).numbers() for seed in range(seeds)]
    numbers = {name: np.array([each[name] for each in found]) for name in found[0]}
    row = module_row(numbers)
    row["verdict"] = verdict(row)
    violated = assumptions(recipe, made(module, 0), len(x), numbers)
    said = reasons(row, [row], {"kernel_change": None}, None)
    return {
        "verdict": row["verdict"],
        "reasons": [*said, *(in_words(each) for each in violated if not each["holds"])],
        "thresholds": dict(THRESHOLDS),
        "definitions": dict(DEFINITIONS),
        "widths": [row],
        "assumptions": violated,
    }


def made(module: Any, seed: int) -> nn.Module:
    """A module of that seed, not the user's own object."""
    import torch

    if isinstance(module, torch.nn.Module):
        return copy.deepcopy(module)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh: nn.Module = module()
    return fresh


@dataclass(frozen=True)
class Member:
    """A start, and what is trained from it."""

    module: nn.Module
    recipe: Recipe
    x: Tensor
    x_test: Tensor | None
    seed: int

    def numbers(self) -> dict[str, float]:
        """Everything that is said of it."""
        import torch

        from ntkengine.analysis import kernel_distance
        from ntkengine.empirical import empirical_ntk

        real, recipe = copy.deepcopy(self.module), self.recipe
        at = sorted({0, *np.rint(np.geomspace(1, recipe.steps, MOMENTS)).astype(int).tolist()})
        path = self._path(real, recipe, at)
        before = torch.nn.utils.parameters_to_vector(self.module.parameters()).detach()
        after = torch.nn.utils.parameters_to_vector(real.parameters()).detach()
        kernels = [empirical_ntk(each, self.x, outputs="full") for each in (real, self.module)]
        end = recipe.value(real, self.x)
        found = {
            "kernel_change": float(kernel_distance(*kernels)),
            "weight_change": float((after - before).norm() / before.norm()),
            "loss_start": recipe.value(self.module, self.x),
            "loss_end": end,
        }
        line = self._path(linearized(self.module), recipe, at)
        found |= {f"linearization_{part}": error for part, error in self._apart(path, line).items()}
        for name, changed in restored(recipe, self.module, self.x, kernels[1], end).items():
            other = self._path(copy.deepcopy(self.module), changed, [0, changed.steps])
            ends = [path[0], path[-1]], [other[0], other[-1]]
            found |= {f"{name}:{part}": error for part, error in self._apart(*ends).items()}
        return found

    def _path(self, module: nn.Module, recipe: Recipe, at: Sequence[int]) -> list[Tensor]:
        watched = self.x if self.x_test is None else self.x.new_tensor(np.concatenate([self.x, self.x_test]))
        path = recipe.train(module, self.x, at, watched, self.seed)
        return path if len(path) == len(at) else [*path, outputs(module, watched)]

    def _apart(self, path: list[Tensor], other: list[Tensor]) -> dict[str, float]:
        """`max_t |f_t - g_t| / |f_T - f_0|` on training and test points."""
        m = len(self.x)
        parts = {"train": slice(0, m)} | ({} if self.x_test is None else {"test": slice(m, None)})
        return {
            part: float(np.max([float((f[rows] - g[rows]).norm()) for f, g in zip(path, other, strict=True)]))
            / max(float((path[-1][rows] - path[0][rows]).norm()), 1e-300)
            for part, rows in parts.items()
        }


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
    """Half of the largest stable rate of the linearized network, `1 / (l_max(Theta) l_max(d^2 L / df^2))`."""
    import torch

    from ntkengine.predict.modes import square

    hessian = torch.autograd.functional.hessian(lambda g: recipe.loss(g, recipe.y), f)  # type: ignore[no-untyped-call]
    curvature = float(torch.linalg.eigvalsh(hessian.reshape(f.numel(), f.numel()))[-1])
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


def module_row(numbers: dict[str, np.ndarray]) -> Row:
    """What a report says of a width, where there is one."""
    start = numbers["loss_start"]
    of = {name: interval(values) for name, values in numbers.items()}
    ended = np.isfinite(numbers["loss_end"])
    return {
        "width": None,  # that of a module of one's own is not known
        "seeds": len(start),
        "diverged": int((~ended).sum()),
        "kernel_change": of["kernel_change"],
        "weight_change": of["weight_change"],
        "linearization_error": {part: of.get(f"linearization_{part}") for part in PARTS},
        "trained_share": interval(1.0 - numbers["loss_end"] / start) if ended.all() else None,
        "test_error": {},
        "learning_rate_limit": lowest(np.array([np.nan])),
    }


def assumptions(recipe: Recipe, module: nn.Module, m: int, numbers: dict[str, np.ndarray]) -> list[Row]:
    """Which assumptions hold, and what those that do not contribute."""
    details = {
        "gradient_flow": f"training makes {recipe.steps} steps",
        "squared_loss": f"the loss is {getattr(recipe.loss, '__name__', type(recipe.loss).__name__)}",
        "full_batch": f"a step uses {min(recipe.batch, m)} of {m} points",
        "plain_descent": f"the optimiser is {type(recipe.optimizer(list(module.parameters()))).__name__}",
    }
    said = []
    for name, detail in details.items():
        of = {part: interval(numbers.get(f"{name}:{part}")) for part in PARTS}
        holds = f"{name}:train" not in numbers
        said.append(
            {"assumption": name, "holds": holds, "detail": detail, "contribution": None if holds else of}
        )
    return said


def in_words(assumption: Row) -> str:
    """What a violated assumption contributes, in a sentence."""
    known = {part: of for part, of in assumption["contribution"].items() if of is not None}
    name = assumption["assumption"].replace("_", " ")
    if not known:
        return f"The theory assumes {name}, but {assumption['detail']}; what that does could not be told."
    where = " and ".join(f"{percent(of['median'])} on the {PARTS[part]}" for part, of in known.items())
    said = f"The theory assumes {name}, but {assumption['detail']}"
    return f"{said}: that moves the outputs by {where} of their motion."
