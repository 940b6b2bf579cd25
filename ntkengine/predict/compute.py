"""Predictions by spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.data import load
from ntkengine.errors import NumericalError
from ntkengine.losses import Squared
from ntkengine.predict.ensemble import INFERENCES, Blocks, Name, covariance_test, covariance_train
from ntkengine.predict.evolution import dump_time
from ntkengine.predict.function_space import integrate
from ntkengine.predict.modes import columns, solution, square
from ntkengine.predict.regression import cholesky, largest_learning_rate, leave_one_out
from ntkengine.predict.solvers import SolverPlan, conjugate_gradients
from ntkengine.predict.sources import Prepared
from ntkengine.predict.spec import PredictSpec
from ntkengine.predict.training import follow

if TYPE_CHECKING:
    from torch import Tensor


WIDTH_POWERS: Mapping[Name, str] = {"ntk": "width_power", "nngp": "nngp_width_power"}


@dataclass(frozen=True)
class Prediction:
    """Outputs at every moment that was asked for, and what can be said of them."""

    arrays: dict[str, NDArray[Any]]
    """`mean_train` (T, n, k), `mean_test` (T, m, k); with `covariance` also `covariance_train` (T, n, n) and
    `covariance_test` (T, m, m), or (T, n, n, k, k); `loss_train`, `loss_test` (T,), of the mean;
    `leave_one_out` (n, k), errors f - y at the end of training."""
    times: tuple[Any, ...]  # in units of the flow; "inf" is the end of training
    steps: tuple[int, ...] | None  # None where training is a flow
    diagnostics: dict[str, Any]
    learning_rate_limit: float | None  # from which on steps diverge; None without a squared loss
    rate_factor: float | None  # None without a squared loss
    time_per_step: float | None
    time_unit: str
    method: dict[str, Any]
    scaling: dict[str, Any] | None
    plan: dict[str, Any]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """A spec with its kernels, as tensors."""

    spec: PredictSpec
    y: Tensor
    given: Prepared
    plan: SolverPlan

    @property
    def moving(self) -> Blocks:
        """The kernel that moves the outputs."""
        return self.given.kernels[INFERENCES[self.spec.inference].kernel]


@dataclass(frozen=True)
class Solved:
    """Outputs by array name, the diagnostics, and what the user should know."""

    arrays: dict[str, Tensor | None]
    diagnostics: dict[str, Any]
    warnings: tuple[str, ...] = ()
    lambda_max: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def compute_prediction(spec: PredictSpec) -> Prediction:
    """The prediction that a spec asks for.

    Raises:
        EngineError: the spec does not fit together, a kernel has no rule, or the result is unusable.

    >>> from ntkengine import Dense, Model, Relu
    >>> model = Model(layers=(Dense(), Relu(), Dense(width=1)))
    >>> data = {"x": [[1.0], [-1.0]], "y": [[1.0], [0.0]], "x_test": [[2.0]]}
    >>> compute_prediction(PredictSpec(model=model, data=data)).arrays["mean_test"].round(9).tolist()
    [[[2.0]]]
    """
    import torch

    spec.check()
    y = torch.from_numpy(load(spec.data.y, "y"))
    given = spec.source.prepare(spec.names)
    problem = Problem(spec, y, given, spec.solver())
    found = SOLVERS[problem.plan.method](problem)
    arrays = {name: array for name, array in found.arrays.items() if array is not None}
    arrays |= losses(problem, arrays)
    loo, unsolved = left_out(problem)
    arrays |= loo
    limit = limit_of(problem, found.lambda_max)
    check_finite(problem, arrays, limit)
    return Prediction(
        arrays={name: array.numpy(force=True) for name, array in arrays.items()},
        diagnostics=found.diagnostics,
        learning_rate_limit=limit,
        method=dict(given.method),
        scaling=None if given.scaling is None else dict(given.scaling),
        plan=spec.plan() | {"solver": problem.plan.to_dict() | found.facts},
        warnings=(*given.warnings, *found.warnings, *unsolved),
        **units(problem),
    )


def by_modes(problem: Problem) -> Solved:
    """All moments from one eigendecomposition."""
    spec, given, moving = problem.spec, problem.given, problem.moving
    solved = solution(
        moving.train_train, problem.y, spec.training, ridge=spec.ridge, entry_error=given.entry_error
    )
    path = follow(solved, moving.train_train, problem.y, moving.test_train, given.f0_train, given.f0_test)
    arrays: dict[str, Tensor | None] = {"mean_train": path.train, "mean_test": path.test}
    if spec.covariance:
        kind = INFERENCES[spec.inference]
        prior, noise = given.kernels[kind.prior], spec.ridge if kind.noisy else 0.0
        arrays["covariance_train"] = covariance_train(solved, moving.train_train, prior.train_train, noise)
        if moving.test_train is not None:
            arrays["covariance_test"] = covariance_test(solved, moving, prior, noise)
    facts = path.diagnostics
    return Solved(arrays, asdict(facts), path.warnings, facts.lambda_max)


def by_factor(problem: Problem) -> Solved:
    """The end of training with a ridge, by a Cholesky factorisation."""
    import torch

    K, errors = problem.moving.train_train, start_errors(problem)
    factor = cholesky(K, problem.spec.ridge)
    return from_weights(problem, torch.cholesky_solve(errors, factor), {})


def by_iteration(problem: Problem) -> Solved:
    """The same by conjugate gradients."""
    K = problem.moving.train_train
    errors = start_errors(problem).reshape(problem.y.shape)
    found = conjugate_gradients(lambda start, stop: K[start:stop].numpy(), errors, ridge=problem.spec.ridge)
    facts = {"iterations": found.iterations, "residual": found.residual}
    return from_weights(problem, columns(K, found.alpha), facts)


def by_integration(problem: Problem) -> Solved:
    """Losses that are not squared, in function space."""
    spec, given, moving = problem.spec, problem.given, problem.moving
    found = integrate(
        moving.train_train,
        problem.y,
        moving.test_train,
        times=spec.training.moments,
        loss=spec.training.loss,
        f0_train=given.f0_train,
        f0_test=given.f0_test,
    )
    high = largest_eigenvalue(moving.train_train)
    arrays = {"mean_train": found.train, "mean_test": found.test}
    return Solved(arrays, partial_diagnostics(high), (), None, found.solver)


SOLVERS: Mapping[str, Callable[[Problem], Solved]] = {
    "eigendecomposition": by_modes,
    "cholesky": by_factor,
    "conjugate_gradients": by_iteration,
    "lsoda": by_integration,
}


def start_errors(problem: Problem) -> Tensor:
    """f(X, 0) - y in the layout of the kernel's matrix."""
    zero = problem.y.new_zeros(problem.y.shape)
    return columns(problem.moving.train_train, zero + problem.given.f0_train - problem.y)


def from_weights(problem: Problem, alpha: Tensor, facts: dict[str, Any]) -> Solved:
    """Outputs `f_0 - K alpha` for `(K + ridge) alpha = f_0 - y`, the same at all moments."""
    moving, given, count = problem.moving, problem.given, len(problem.spec.training.moments)

    def outputs(kernel: Tensor, f0: Tensor | float) -> Tensor:
        f = f0 - (square(kernel) @ alpha).reshape(len(kernel), -1)
        return f.expand(count, -1, -1)

    train = outputs(moving.train_train, given.f0_train)
    test = None if moving.test_train is None else outputs(moving.test_train, given.f0_test)
    high = largest_eigenvalue(moving.train_train)
    return Solved({"mean_train": train, "mean_test": test}, partial_diagnostics(high), (), high, facts)


def largest_eigenvalue(kernel: Tensor) -> float:
    """By Lanczos' method, where all eigenvalues would cost more than the solution."""
    from scipy.sparse.linalg import eigsh

    matrix = square(kernel).numpy()
    if len(matrix) < 3:
        return float(np.linalg.eigvalsh(matrix)[-1])
    start = np.random.default_rng(0).normal(size=len(matrix))
    return float(eigsh(matrix, k=1, which="LA", return_eigenvectors=False, v0=start)[0])


def partial_diagnostics(lambda_max: float) -> dict[str, Any]:
    """What is known without all eigenvalues."""
    unknown = ("lambda_min", "clipped", "rank", "rcond", "condition_number", "effective_rank")
    return {"lambda_max": lambda_max, **dict.fromkeys(unknown)}


def losses(problem: Problem, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The loss of the mean, on training points and where there are test targets."""
    import torch

    loss, data = problem.spec.training.loss, problem.spec.data
    found = {"loss_train": loss.value(arrays["mean_train"], problem.y)}
    if data.y_test is not None:
        found["loss_test"] = loss.value(arrays["mean_test"], torch.from_numpy(load(data.y_test, "y")))
    return found


def left_out(problem: Problem) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The leave-one-out errors, or why there are none."""
    if not isinstance(problem.spec.training.loss, Squared) or problem.plan.method == "conjugate_gradients":
        return {}, ()
    K, ridge = problem.moving.train_train, problem.spec.ridge
    try:
        return {"leave_one_out": leave_one_out(K, problem.y, ridge=ridge, f0=problem.given.f0_train)}, ()
    except NumericalError:
        return {}, ("there are no leave-one-out errors: the kernel plus ridge is singular to rounding",)


def limit_of(problem: Problem, lambda_max: float | None) -> float | None:
    """The learning rate from which on steps diverge, where it is known and finite."""
    if lambda_max is None:
        return None
    training: Any = problem.spec.training
    limit = largest_learning_rate(
        lambda_max,
        *problem.y.shape,
        momentum=getattr(training, "momentum", 0.0),
        loss=training.loss,
        ridge=problem.spec.ridge,
    )
    return limit if math.isfinite(limit) else None


def check_finite(problem: Problem, arrays: Mapping[str, Tensor], limit: float | None) -> None:
    """Refuse numbers that are none.

    Raises:
        NumericalError: with the reason.
    """
    names = [name for name, array in arrays.items() if not bool(array.isfinite().all())]
    if not names:
        return
    said = f"{', '.join(names)}: the numbers left the range of float64"
    if limit is not None and math.isfinite(problem.spec.training.largest_rate):
        raise NumericalError(
            f"{said}; steps are unstable from a learning rate of {limit:.3g} on",
            pointer="/training/learning_rate",
            hint="use a smaller learning rate, or fewer steps",
        )
    raise NumericalError(said, pointer="/data/y", hint="scale inputs and targets to entries of order 1")


def units(problem: Problem) -> dict[str, Any]:
    """What converts times, steps and the theory's time into each other."""
    training = problem.spec.training
    per_step = training.time_per_step
    rate_factor = training.loss.rate_factor(*problem.y.shape) if isinstance(training.loss, Squared) else None
    said = f"time of gradient flow on the {training.loss.kind} loss"
    if rate_factor is not None:
        said += f"; times rate_factor ({rate_factor:g}) it is time on half_sum"
    kernel = INFERENCES[problem.spec.inference].kernel
    power = (problem.given.scaling or {}).get(WIDTH_POWERS[kernel], 0)
    if power:
        said += f"; the kernel is the coefficient of N^{power}: at width N all goes N^{power} times as fast"
    moments = training.moments
    return {
        "times": tuple(dump_time(moment * (per_step or 1.0)) for moment in moments),
        "steps": tuple(int(m) for m in moments) if training.kind == "gradient_descent" else None,
        "rate_factor": rate_factor,
        "time_per_step": per_step,
        "time_unit": said,
    }
