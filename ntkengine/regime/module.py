"""The regime of a user's own module under its own optimiser, and what each assumption of the theory costs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkengine.errors import SpecError
from ntkengine.regime.recipe import (
    FINER,
    LONGEST,
    LossFunction,
    OptimizerFactory,
    Recipe,
    linearized,
    outputs,
    restored,
)
from ntkengine.regime.report import Checkpoint, Step
from ntkengine.regime.rows import EXPONENTS, Row, interval, lowest
from ntkengine.regime.sentences import PARTS, percent, reasons
from ntkengine.regime.thresholds import DEFINITIONS, THRESHOLDS, verdict

if TYPE_CHECKING:
    from torch import Tensor, nn

MOMENTS = 16  # at which outputs are compared, evenly spaced in the logarithm of steps
SLOWER = 4  # times smaller are steps that follow those that did not work
LINEAR_COST = 3.0  # of a step of the linearization, in steps of the module

Numbers = dict[str, float]


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
    y_test: Tensor | None = None,
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
        y_test: targets there, for the loss on test points.
        seeds: how many starts; with a module in place of a function, how many orders of its batches. A module
            whose steps use all points has one start and one order: there is one, and no interval.

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
    recipe = Recipe(optimizer, loss, y, steps, batch_size or len(x))
    *_, last = Trials(module, recipe, x, x_test, y_test, seeds).measured()
    if last.report is None:
        raise RuntimeError("a report has an end")
    return last.report


@dataclass(frozen=True)
class Trials:
    """A module that is trained from several starts, or in several orders."""

    module: nn.Module | Callable[[], nn.Module]
    recipe: Recipe
    x: Tensor
    x_test: Tensor | None
    y_test: Tensor | None
    seeds: int

    @property
    def alike(self) -> bool:
        """Whether all starts would be the same."""
        import torch

        return isinstance(self.module, torch.nn.Module) and self.recipe.batch >= len(self.x)

    @property
    def count(self) -> int:
        """How many trainings of the module there are."""
        return 1 if self.alike else self.seeds

    def measured(self, checkpoint: Checkpoint | None = None) -> Iterator[Step]:
        """Train, from where a step's checkpoint left off; the last step has the report."""
        if self.seeds < 2 or self.recipe.steps < 1:
            raise SpecError(
                "an interval needs at least 2 seeds and a step", hint="use seeds=3 and some steps"
            )
        found = seed_by_seed(checkpoint or {})
        for seed in range(len(found), self.count):
            for share, numbers in self.member(seed).measured():
                found += [] if numbers is None else [numbers]
                yield Step(min((seed + share) / self.count, 0.99), gathered(found))
        yield Step(1.0, gathered(found), self.report(found))

    def member(self, seed: int) -> Member:
        return Member(made(self.module, seed), self.recipe, self.x, self.x_test, self.y_test, seed)

    def report(self, found: list[Numbers]) -> Row:
        """The report, as JSON has it."""
        row = module_row(gathered(found * (2 if self.alike else 1))) | {"seeds": len(found)}
        row["verdict"] = verdict(row)
        exponents = dict.fromkeys(EXPONENTS)
        violated = assumptions(self.recipe, made(self.module, 0), len(self.x), gathered(found * 2))
        one = ["Weights and order of the steps are given, so this is one training, without an interval."]
        said = [*reasons(row, [row], exponents, None), *(one if self.alike else [])]
        return {
            "verdict": row["verdict"],
            "width": None,
            "reasons": [*said, *(in_words(each) for each in violated if not each["holds"])],
            "thresholds": dict(THRESHOLDS),
            "definitions": dict(DEFINITIONS),
            "widths": [row],
            "exponents": exponents,
            "learning_rate_limit": None,
            "advice": None,
            "assumptions": violated,
        }


def gradients(trials: Trials) -> float:
    """Steps of the optimiser that everything takes, at most."""
    of_one = 1.0 + LINEAR_COST + FINER + 1.0 + 2 * LONGEST + 1.0
    return trials.count * trials.recipe.steps * of_one


def gathered(found: list[Numbers]) -> Checkpoint:
    """Numbers by name, an entry a seed."""
    return {name: np.array([each[name] for each in found]) for name in (found[0] if found else {})}


def seed_by_seed(checkpoint: Checkpoint) -> list[Numbers]:
    """The same, a dict a seed."""
    count = len(next(iter(checkpoint.values()))) if checkpoint else 0
    return [{name: float(values[at]) for name, values in checkpoint.items()} for at in range(count)]


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
    y_test: Tensor | None
    seed: int

    def measured(self) -> Iterator[tuple[float, Numbers | None]]:
        """The share that is done, and with the last everything that is said of it."""
        real, recipe = copy.deepcopy(self.module), self.recipe
        at = sorted({0, *np.rint(np.geomspace(1, recipe.steps, MOMENTS)).astype(int).tolist()})
        path = self._path(real, recipe, at)
        found, kernel = self._motion(real)
        changes = restored(recipe, self.module, self.x, kernel, found["loss_end"])
        costs = {name: each.steps * each.finer / recipe.steps for name, each in changes.items()}
        done, total = 1.0, 1.0 + LINEAR_COST + sum(costs.values())
        yield done / total, None
        line = self._path(linearized(self.module), recipe, at)
        found |= {f"linearization_{part}": error for part, error in self._apart(path, line).items()}
        found |= self._errors(network=path[-1], linearized=line[-1])
        for name, changed in changes.items():
            done += LINEAR_COST if name == "gradient_flow" else 0.0
            yield done / total, None
            ends = [path[0], path[-1]], [path[0], self._end(changed)]
            found |= {f"{name}:{part}": error for part, error in self._apart(*ends).items()}
            done += costs[name]
        yield 1.0, found

    def _end(self, recipe: Recipe) -> Tensor:
        """Outputs after another training; in smaller steps where these do not come to the loss that they are
        to reach, since the kernel has grown; not a number where these do not either."""
        end, value = self._other(recipe)
        if recipe.until is None or value <= recipe.until:
            return end
        slower = replace(recipe, finer=recipe.finer * SLOWER, steps=max(1, recipe.steps // SLOWER))
        end, value = self._other(slower)
        return end if value <= recipe.until else end * math.nan

    def _other(self, recipe: Recipe) -> tuple[Tensor, float]:
        module = copy.deepcopy(self.module)
        *_, end = self._path(module, recipe, [recipe.steps])
        return end, recipe.value(module, self.x)

    def _motion(self, real: nn.Module) -> tuple[Numbers, Tensor]:
        """How far the kernel, the weights and the loss have moved; and the kernel at the start."""
        import torch

        from ntkengine.analysis import kernel_distance
        from ntkengine.empirical import empirical_ntk

        before, after = (
            torch.nn.utils.parameters_to_vector(each.parameters()).detach() for each in (self.module, real)
        )
        start, end = (empirical_ntk(each, self.x, outputs="full") for each in (self.module, real))
        found = {
            "kernel_change": float(kernel_distance(end, start)),
            "weight_change": float((after - before).norm() / before.norm()),
            "loss_start": self.recipe.value(self.module, self.x),
            "loss_end": self.recipe.value(real, self.x),
        }
        return found, start

    def _path(self, module: nn.Module, recipe: Recipe, at: Sequence[int]) -> list[Tensor]:
        import torch

        watched = self.x if self.x_test is None else torch.cat([self.x, self.x_test])
        path = recipe.train(module, self.x, at, watched, self.seed)
        return path if len(path) == len(at) else [*path, outputs(module, watched)]

    def _apart(self, path: list[Tensor], other: list[Tensor]) -> Numbers:
        """`max_t |f_t - g_t| / |f_T - f_0|` on training and test points."""
        m = len(self.x)
        parts = {"train": slice(0, m)} | ({} if self.x_test is None else {"test": slice(m, None)})
        return {
            part: float(np.max([float((f[rows] - g[rows]).norm()) for f, g in zip(path, other, strict=True)]))
            / max(float((path[-1][rows] - path[0][rows]).norm()), 1e-300)
            for part, rows in parts.items()
        }

    def _errors(self, **ends: Tensor) -> Numbers:
        """The loss on the test points, if these have targets."""
        if self.y_test is None:
            return {}
        m, loss = len(self.x), self.recipe.loss
        return {f"error_{whose}": float(loss(f[m:], self.y_test)) for whose, f in ends.items()}


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
        "test_error": {whose: of.get(f"error_{whose}") for whose in ("network", "linearized", "kernel")},
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
