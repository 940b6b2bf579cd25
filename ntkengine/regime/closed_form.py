"""What a network's kernel at the start says of its training: outputs in closed form, member by member."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntkengine.dynamics import GradientDescent, RunSpec
from ntkengine.dynamics.members import Members
from ntkengine.dynamics.objective import Objective
from ntkengine.dynamics.run import problem
from ntkengine.dynamics.snapshot import Stack, State
from ntkengine.losses import Squared
from ntkengine.predict import Descent, Diagnostics, Evolution, Flow, Modes, integrate, largest_learning_rate
from ntkengine.predict.modes import Solution, columns, square
from ntkengine.predict.training import follow
from ntkengine.regime.spec import KRYLOV

Array = NDArray[np.float64]

DENSE = 500  # rows up to which all modes of a kernel are computed
BATCH = 20  # dimensions by which a Krylov space grows between two looks at its error
ENOUGH = 1e-9  # of the outputs' size: an error of the Krylov space that is not seen


@dataclass(frozen=True)
class Start:
    """A member before training: its outputs f0 on training and test points, and the kernel that moves them,
    `sum_p rate_p df/dp df/dp`, between all of these and the training points."""

    f0: Tensor
    f0_test: Tensor
    kernel: Tensor
    kernel_test: Tensor


def starts(run: RunSpec) -> list[Start]:
    """The members of a run before training."""
    members, given = Members.of(run), problem(run)
    objective = Objective(members.function, members.fixed, given, members.rates_by_number())
    stack = Stack(objective, members, members.theta)
    m = len(given.x)
    x = torch.cat(list(given.inputs().values()))
    found = []
    for member in range(len(members)):
        f = objective.only(member).outputs(members.theta[member : member + 1], x)[0]
        blocks = State(stack, member).moving_blocks(x)
        found.append(Start(f[:m], f[m:], blocks[:m], blocks[m:]))
    return found


@dataclass(frozen=True)
class Foretold:
    """Outputs (T, m, k) and (T, n, k) on training and test points."""

    train: Array
    test: Array


@dataclass(frozen=True)
class Theory:
    """What a kernel at the start foretells, under one way of training.

    `linearized` are the outputs of the linearized network trained as the network is, or None where its
    kernel does not say; `kernel` those of gradient flow, for the same time.
    """

    run: RunSpec
    start: Start

    def linearized(self, positions: Array) -> Foretold:
        """By the optimiser's own steps, at those positions of the run."""
        return self._follow(self._own(positions))

    def kernel(self, times: Array) -> Foretold:
        """By gradient flow of the same loss, at those times."""
        loss, start, y = self.run.training.loss, self.start, problem(self.run).y
        if isinstance(loss, Squared):
            return self._follow(Flow(times=tuple(times), loss=loss))
        found = integrate(
            start.kernel,
            y,
            start.kernel_test if len(start.kernel_test) else None,
            times=tuple(times),
            loss=loss,
            f0_train=start.f0,
            f0_test=start.f0_test,
        )
        none = torch.zeros(len(times), 0, y.shape[1])
        return Foretold(found.train.numpy(), (none if found.test is None else found.test).numpy())

    def learning_rate_limit(self) -> float:
        """From which on plain descent (or with this momentum) on the linearized network diverges."""
        loss = self.run.training.loss
        if not isinstance(loss, Squared):
            return math.nan
        high = top_eigenvalue(square(self.start.kernel))
        m, k = self.start.f0.shape
        momentum = getattr(self.run.training, "momentum", 0.0)
        return largest_learning_rate(high, m, k, momentum=momentum, loss=loss)

    def _own(self, positions: Array) -> Evolution:
        training = self.run.training
        if not isinstance(training, GradientDescent):
            return Flow(times=tuple(positions), loss=training.loss)
        return Descent(
            learning_rate=training.learning_rate,
            steps=tuple(int(position) for position in positions),
            momentum=training.momentum,
            loss=training.loss,
        )

    def _follow(self, evolution: Evolution) -> Foretold:
        start, y = self.start, problem(self.run).y
        errors = columns(start.kernel, start.f0 - y)
        found = resolved(square(start.kernel), errors, evolution, *y.shape)
        path = follow(found, start.kernel, y, start.kernel_test, start.f0, start.f0_test)
        return Foretold(path.train.numpy(), (start.f0_test if path.test is None else path.test).numpy())


def resolved(matrix: Tensor, errors: Tensor, evolution: Evolution, m: int, k: int) -> Solution:
    """The errors' evolution by all modes of a small kernel, or by those of a Krylov space of a large one that
    is grown until it makes no difference."""
    rate_factor = evolution.loss.rate_factor(m, k)
    if len(matrix) <= DENSE:
        return Solution(Modes.of(matrix), evolution, rate_factor)
    space = Krylov(matrix, errors)
    found = Solution(space.modes(), evolution, rate_factor)
    known = found.train(errors)
    while space.grow(BATCH):
        found = Solution(space.modes(), evolution, rate_factor)
        now = found.train(errors)
        if float((now - known).norm()) <= ENOUGH * float(errors.norm()):
            break
        known = now
    return found


class Krylov:
    """Modes of a symmetric matrix K as one vector r sees them, by Lanczos iterations with full
    reorthogonalization.

    On the span of r, K r, ..., K^(q-1) r the values of any polynomial of degree below q of K at r are exact.
    Source: Golub and Van Loan, "Matrix computations" (2013), sections 10.1 and 9.4.
    """

    def __init__(self, matrix: Tensor, vector: Tensor) -> None:
        self._matrix = matrix
        self._basis = vector.new_zeros(len(matrix), 0)
        self._next = vector[:, 0] / vector.norm()
        self._high = 0.0
        self.grow(BATCH)

    def grow(self, by: int) -> bool:
        """Add dimensions; False where there are no more, or enough of them."""
        before = self._basis.shape[1]
        for _ in range(min(by, KRYLOV - before)):
            if not float(self._next.norm()):
                break
            self._basis = torch.cat([self._basis, self._next[:, None]], 1)
            product = self._matrix @ self._next
            size = float(product.norm())
            for _ in range(2):  # once leaves what rounding puts back
                product = product - self._basis @ (self._basis.mT @ product)
            left = float(product.norm())
            self._high = max(self._high, size)
            exhausted = left <= 1e-13 * self._high
            self._next = torch.zeros_like(product) if exhausted else product / left
        return self._basis.shape[1] > before

    def modes(self) -> Modes:
        """The Ritz values, and the Ritz vectors (rows, q)."""
        small = self._basis.mT @ self._matrix @ self._basis
        values, vectors = torch.linalg.eigh((small + small.mT) / 2)
        return Modes(values.clamp(min=0.0), self._basis @ vectors, facts_of(values))


def facts_of(values: Tensor) -> Diagnostics:
    """What is known of a kernel by some of its modes."""
    rcond = len(values) * torch.finfo(values.dtype).eps
    high = float(values[-1])
    return Diagnostics(
        lambda_min=float(values[0]),
        lambda_max=high,
        clipped=int((values < 0).sum()),
        rank=int((values > rcond * high).sum()),
        rcond=rcond,
        condition_number=None,
        effective_rank=None,
    )


def top_eigenvalue(matrix: Tensor) -> float:
    """The largest eigenvalue of a positive semi-definite matrix."""
    if len(matrix) <= DENSE:
        return float(torch.linalg.eigvalsh(matrix)[-1])
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(len(matrix), 1, generator=generator, dtype=matrix.dtype)
    space = Krylov(matrix, first)
    high = 0.0
    while (now := space.modes().diagnostics.lambda_max) > high * (1 + 1e-9) and space.grow(BATCH):
        high = now
    return now


def rms(errors: Any) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(errors))))
