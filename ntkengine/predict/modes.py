"""The modes of a kernel: one eigendecomposition, from which all times follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ntkengine.errors import NumericalError, SpecError
from ntkengine.losses import Loss, Squared
from ntkengine.predict.evolution import Evolution

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Diagnostics:
    """Of the kernel on the training points, without ridge."""

    lambda_min: float  # as computed, before clipping
    lambda_max: float
    clipped: int  # eigenvalues below 0 by rounding, taken as 0
    rank: int  # eigenvalues above rcond lambda_max
    rcond: float  # what is below, relative to lambda_max, is not told from 0; at t = inf it is left out
    condition_number: float | None  # None where the kernel is singular
    effective_rank: float | None  # (sum l)^2 / sum l^2; None where the kernel is 0


@dataclass(frozen=True)
class Modes:
    """`K = U diag(l) U^T`: eigenvalues l (r,), clipped at 0 and ascending, and eigenvectors U (r, r)."""

    values: Tensor
    vectors: Tensor
    diagnostics: Diagnostics

    @classmethod
    def of(cls, kernel: Tensor, *, entry_error: float = 0.0) -> Modes:
        """The modes of a kernel (n, n) or (n, n, k, k).

        Args:
            entry_error: bounds the error of an entry beyond rounding, relative to the largest one.

        Raises:
            NumericalError: an eigenvalue is below `-r max(eps, entry_error) lambda_max`, or there is a NaN.
        """
        import torch

        from ntkengine.analysis import effective_rank

        matrix = square(kernel)
        if not bool(torch.isfinite(matrix).all()):
            raise NumericalError("the kernel is not finite", hint="scale the inputs to entries of order 1")
        values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
        low, high = float(values[0]), float(values[-1])
        rcond = len(values) * max(torch.finfo(values.dtype).eps, entry_error)
        if low < -rcond * max(high, 0.0):
            raise NumericalError(
                f"the kernel is not positive semi-definite: its eigenvalues run from {low:.3g} to {high:.3g}",
                hint="a kernel is J J^T, and so has none below 0; was it computed on one set of inputs?",
            )
        rank = int((values > rcond * high).sum())
        facts = Diagnostics(
            lambda_min=low,
            lambda_max=high,
            clipped=int((values < 0).sum()),
            rank=rank,
            rcond=rcond,
            condition_number=high / low if rank == len(values) else None,
            effective_rank=float(effective_rank(matrix)) if high > 0 else None,
        )
        return cls(values.clamp(min=0.0), vectors, facts)

    @property
    def singular(self) -> bool:
        """Whether some directions of the targets cannot be learned, or not be told from such."""
        return self.diagnostics.rank < len(self.values)

    def warnings(self) -> tuple[str, ...]:
        """What a user of these modes should know."""
        if not self.singular:
            return ()
        facts = self.diagnostics
        said = (
            f"the kernel is singular: its rank is {facts.rank} of {len(self.values)} (eigenvalues up to "
            f"{facts.rcond:.2g} lambda_max are taken as 0 at t = inf, where targets outside its range keep "
            "their error)"
        )
        return (said,)


@dataclass(frozen=True)
class Solution:
    """The errors of training on the modes of a kernel, with a penalty `ridge / 2 |theta - theta_0|^2` beside
    the half-sum of squares (both times the loss's rate factor)."""

    modes: Modes
    evolution: Evolution
    rate_factor: float
    ridge: float = 0.0

    @property
    def rates(self) -> Tensor:
        """Of the modes, in the loss's unit of time."""
        return self.rate_factor * (self.modes.values + self.ridge)

    @property
    def floor(self) -> float:
        """Rates up to here are not told from 0."""
        return self.rate_factor * self.modes.diagnostics.rcond * self.modes.diagnostics.lambda_max

    def gain(self) -> Tensor:
        """What training adds in each mode, per error at the start and eigenvalue, (T, r)."""
        gain = self.rate_factor * self.evolution.gain(self.rates)
        return gain.where(self._follows(), gain.new_zeros(()))

    def decay(self) -> Tensor:
        """What is left of the error in each mode, (T, r)."""
        decay = self.evolution.decay(self.rates)
        decay = decay.where(self._follows(), decay.new_ones(()))
        if not self.ridge:
            return decay
        values = self.modes.values
        return (self.ridge + values * decay) / (self.ridge + values)

    def _follows(self) -> Tensor:
        """Whether a mode is followed to a moment: all are, but at t = inf those that are not told from 0."""
        finite = [math.isfinite(moment) for moment in self.evolution.moments]
        return self.rates.new_tensor(finite).bool()[:, None] | (self.rates > self.floor)

    def left(self) -> Tensor:
        """`R_t = U diag(decay) U^T`, the map from errors at the start to errors at t, (T, r, r)."""
        U = self.modes.vectors
        return (U * self.decay()[:, None, :]) @ U.mT

    def map(self, k_test_train: Tensor) -> Tensor:
        """`A_t = K(x, X) U diag(gain) U^T`: f(x, t) = f(x, 0) - A_t (f(X, 0) - y); (T, rows of x, r)."""
        U = self.modes.vectors
        return (k_test_train @ U * self.gain()[:, None, :]) @ U.mT

    def train(self, errors: Tensor) -> Tensor:
        """Errors on the training points at all moments, (T, r, c), of those at the start (r, c)."""
        U = self.modes.vectors
        return U @ (self.decay()[:, :, None] * (U.mT @ errors))

    def change(self, k_test_train: Tensor, errors: Tensor) -> Tensor:
        """What training adds to f(x), (T, rows of x, c)."""
        U = self.modes.vectors
        return -(k_test_train @ U) @ (self.gain()[:, :, None] * (U.mT @ errors))

    def warnings(self) -> tuple[str, ...]:
        """What a user of this solution should know."""
        fastest = self.rate_factor * (self.modes.diagnostics.lambda_max + self.ridge)
        limit = self.evolution.largest_rate
        unstable = () if fastest < limit else (f"the steps are unstable: {beyond(fastest, limit)}",)
        latest = max((t for t in self.evolution.moments if math.isfinite(t)), default=0.0)
        elapsed = latest * (self.evolution.time_per_step or 1.0)
        blurred = self.modes.singular and not self.ridge and elapsed * self.floor > 1e-3
        late = (
            f"by t = {latest:.3g} what rounding left of eigenvalues that are 0 may move the prediction: "
            'ask for t = "inf", which leaves them out, or use a ridge'
        )
        singular = () if self.ridge else self.modes.warnings()
        return (*singular, *unstable, *((late,) if blurred else ()))


def beyond(fastest: float, limit: float) -> str:
    """Which condition of stability is violated, in words."""
    share = fastest / limit
    return f"the learning rate is {share:.3g} times the largest stable one, so that the error grows"


def solution(
    kernel: Tensor, y: Tensor, evolution: Evolution, *, ridge: float = 0.0, entry_error: float = 0.0
) -> Solution:
    """How training on targets y (n, k) goes, for a kernel (n, n) or (n, n, k, k)."""
    check_kernel(kernel, y)
    rate_factor = squared_rate(evolution.loss, *y.shape)
    return Solution(Modes.of(kernel, entry_error=entry_error), evolution, rate_factor, ridge)


def squared_rate(loss: Loss, n: int, k: int) -> float:
    """The rate factor of a squared loss.

    Raises:
        SpecError: it is another loss.
    """
    if not isinstance(loss, Squared):
        raise SpecError(
            f"a closed form needs a squared loss, got {loss.kind}",
            pointer="/training/loss",
            hint='use half_sum, half_mean or mean; or, in function space, training of kind "gradient_flow"',
        )
    return loss.rate_factor(n, k)


def square(kernel: Tensor) -> Tensor:
    """A kernel (n1, n2), or (n1, n2, k, k) with point and output on one axis, (n1 k, n2 k)."""
    if kernel.ndim == 2:
        return kernel
    n1, n2, k, _ = kernel.shape
    return kernel.permute(0, 2, 1, 3).reshape(n1 * k, n2 * k)


def unsquare(matrices: Tensor, kernel: Tensor) -> Tensor:
    """Matrices (T, rows, columns) in the form that the kernel has: (T, n1, n2) or (T, n1, n2, k, k)."""
    if kernel.ndim == 2:
        return matrices
    n1, n2, k, _ = kernel.shape
    return matrices.reshape(-1, n1, k, n2, k).permute(0, 1, 3, 2, 4)


def columns(kernel: Tensor, f: Tensor) -> Tensor:
    """Values (n, k) in the layout of a kernel's matrix: (n, k), or (n k, 1) for blocks."""
    return f if kernel.ndim == 2 else f.reshape(-1, 1)


def check_kernel(kernel: Tensor, y: Tensor) -> None:
    """A kernel (n, n) or (n, n, k, k) for targets (n, k).

    Raises:
        SpecError: the shapes do not fit.
    """
    n, k = y.shape
    if tuple(kernel.shape) not in {(n, n), (n, n, k, k)}:
        raise SpecError(
            f"targets ({n}, {k}) need a kernel ({n}, {n}) or ({n}, {n}, {k}, {k}), got {tuple(kernel.shape)}"
        )
