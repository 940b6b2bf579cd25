"""Mean and covariance over initialisations, and inference with Gaussian processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ntkengine.errors import SpecError
from ntkengine.predict.evolution import Evolution, Flow
from ntkengine.predict.modes import Diagnostics, Solution, solution, square, unsquare
from ntkengine.predict.training import follow

if TYPE_CHECKING:
    from torch import Tensor

Name = Literal["nngp", "ntk"]
InferenceName = Literal["ntk", "nngp", "ntkgp"]


@dataclass(frozen=True)
class Blocks:
    """A kernel on training points X and test points x: K(X, X), K(x, X) and K(x, x)."""

    train_train: Tensor
    test_train: Tensor | None = None
    test_test: Tensor | None = None


@dataclass(frozen=True)
class Inference:
    """Which kernel moves the outputs, and what they are distributed by before."""

    kernel: Name
    prior: Name
    noisy: bool
    """Whether the ridge is the variance of noise in the targets, which the covariance then contains."""


INFERENCES: Mapping[InferenceName, Inference] = {
    "ntk": Inference("ntk", "nngp", noisy=False),
    "nngp": Inference("nngp", "nngp", noisy=True),
    "ntkgp": Inference("ntk", "ntk", noisy=True),
}


@dataclass(frozen=True)
class Ensemble:
    """Means (T, n, k); covariances (T, n, n) of each of k independent outputs, or (T, n, n, k, k)."""

    moments: tuple[float, ...]
    mean_train: Tensor
    mean_test: Tensor | None
    covariance_train: Tensor
    covariance_test: Tensor | None
    diagnostics: Diagnostics
    warnings: tuple[str, ...]


def ensemble(
    kernels: Mapping[Name, Blocks],
    y: Tensor,
    evolution: Evolution,
    *,
    inference: InferenceName = "ntk",
    ridge: float = 0.0,
    entry_error: float = 0.0,
) -> Ensemble:
    """Mean and covariance, over initialisations, of the outputs of wide networks that were trained:

    `E f(x, t) = A_t y`, `Cov f(x, t) = S(x, x) - A_t S(X, x) - S(x, X) A_t^T + A_t S(X, X) A_t^T`,
    `A_t = K(x, X) U diag(gain) U^T`, the gain as in `gradient_flow` or `gradient_descent`.

    Args:
        kernels: by name, `ntk` and `nngp`, those that the inference needs.
        y: targets (n, k).
        evolution: `Flow`, `Descent` or `MomentumFlow`.
        inference: `ntk`: all weights are trained, K = ntk and S = nngp. `nngp`: the read-out alone is
            trained, K = S = nngp; at t = inf the posterior of the Gaussian process. `ntkgp`: K = S = ntk.
        ridge: as in `gradient_flow`; for `nngp` and `ntkgp` it is also the variance of noise in the targets,
            so that `ridge A_t A_t^T` adds to the covariance, as it does in a posterior.

    Raises:
        SpecError: a kernel is missing. Others as in `gradient_flow`.

    Source: Lee et al. (2019), eqs. 13-16.

    >>> import torch
    >>> K = Blocks(torch.eye(1, dtype=torch.float64))
    >>> y = torch.ones(1, 1, dtype=torch.float64)
    >>> found = ensemble({"nngp": K, "ntk": K}, y, Flow(times=(0.0, 1.0)))
    >>> found.covariance_train.flatten().tolist()[0]
    1.0
    """
    kind = INFERENCES[inference]
    for name in (kind.kernel, kind.prior):
        if name not in kernels:
            raise SpecError(f"inference {inference!r} needs the {name}", pointer="/of")
    moving, prior = kernels[kind.kernel], kernels[kind.prior]
    found = solution(moving.train_train, y, evolution, ridge=ridge, entry_error=entry_error)
    mean = follow(found, moving.train_train, y, moving.test_train, 0.0, 0.0)
    noise = ridge if kind.noisy else 0.0
    return Ensemble(
        moments=mean.moments,
        mean_train=mean.train,
        mean_test=mean.test,
        covariance_train=covariance_train(found, moving.train_train, prior.train_train, noise),
        covariance_test=None if moving.test_train is None else covariance_test(found, moving, prior, noise),
        diagnostics=mean.diagnostics,
        warnings=mean.warnings,
    )


def gp_inference(
    kernels: Mapping[Name, Blocks],
    y: Tensor,
    *,
    inference: InferenceName = "nngp",
    ridge: float = 0.0,
    entry_error: float = 0.0,
) -> Ensemble:
    """`ensemble` at the end of training: for `nngp` and `ntkgp` the posterior of a Gaussian process with
    noise of variance `ridge`, `S(x, x) - S(x, X) (S(X, X) + ridge)^-1 S(X, x)`.

    Source: Rasmussen and Williams (2006), eqs. 2.23-2.24; Lee et al. (2018).

    >>> import torch
    >>> K = Blocks(torch.eye(1, dtype=torch.float64))
    >>> found = gp_inference({"nngp": K}, torch.ones(1, 1, dtype=torch.float64), ridge=1.0)
    >>> found.mean_train.item(), found.covariance_train.item()
    (0.5, 0.5)
    """
    evolution = Flow(times=(math.inf,))
    return ensemble(kernels, y, evolution, inference=inference, ridge=ridge, entry_error=entry_error)


def covariance_train(found: Solution, kernel: Tensor, prior: Tensor, noise: float) -> Tensor:
    """`R S R^T` with the map R of errors, which does not cancel, and what noise adds."""
    left = found.left()
    matrices = left @ square(prior) @ left.mT
    if noise:
        A = found.map(square(kernel))
        matrices = matrices + noise * A @ A.mT
    return unsquare((matrices + matrices.mT) / 2, prior)


def covariance_test(found: Solution, moving: Blocks, prior: Blocks, noise: float) -> Tensor:
    """The covariance on test points."""
    if moving.test_train is None or prior.test_train is None or prior.test_test is None:
        raise SpecError("a covariance on test points needs K(x, X) and K(x, x)", pointer="/of")
    import torch

    A = found.map(square(moving.test_train))
    cross = A @ square(prior.test_train).mT
    S = square(prior.train_train)
    spread = S + noise * torch.eye(len(S), dtype=S.dtype)
    matrices = square(prior.test_test) - cross - cross.mT + A @ spread @ A.mT
    return unsquare((matrices + matrices.mT) / 2, prior.test_test)
