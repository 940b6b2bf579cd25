"""Monte-Carlo kernels: means over random networks of given widths, with standard errors.

What is left where a layer has no infinite-width rule, and for networks that no spec describes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ntkengine.errors import Cancelled, NumericalError, SpecError
from ntkengine.gram.compute import ignore, never

if TYPE_CHECKING:
    from torch import Tensor, nn

Name = Literal["nngp", "ntk"]
Kernels = Callable[["nn.Module", "Tensor", "Tensor | None", tuple[Name, ...]], Mapping[str, "Tensor"]]
Progress = Callable[[int, int, float], None]  # draws done, of how many as far as is known, relative error

MIN_DRAWS = 64  # before the spread of the draws is believed


@dataclass(frozen=True)
class Average:
    """The mean of some draws and its standard error, entry by entry, in float64."""

    mean: Tensor
    stderr: Tensor
    draws: int

    @property
    def relative_error(self) -> float:
        """The largest standard error over the largest entry of the mean."""
        error, size = float(self.stderr.max()), float(self.mean.abs().max())
        return error / size if size > 0 else math.inf if error > 0 else 0.0


class Running:
    """Mean and sum of squared deviations of draws that come one by one (Welford, 1962)."""

    def __init__(self) -> None:
        self.draws = 0
        self._mean: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}

    def add(self, sample: Mapping[str, Tensor]) -> None:
        """One more draw."""
        self.draws += 1
        for name, value in sample.items():
            mean = self._mean.setdefault(name, value.new_zeros(value.shape).double())
            squares = self._squares.setdefault(name, mean.new_zeros(mean.shape))
            deviation = value.double() - mean
            mean += deviation / self.draws
            squares += deviation * (value.double() - mean)

    def averages(self) -> dict[str, Average]:
        """Of the draws so far, at least two."""
        scale = self.draws * (self.draws - 1)
        return {
            name: Average(mean.clone(), (self._squares[name] / scale).sqrt(), self.draws)
            for name, mean in self._mean.items()
        }

    def relative_error(self) -> float:
        """The largest of all arrays."""
        return max(average.relative_error for average in self.averages().values())


def average(
    sample: Callable[[int], Mapping[str, Tensor]],
    *,
    rtol: float,
    max_draws: int,
    seed: int = 0,
    progress: Progress = ignore,
    cancelled: Callable[[], bool] = never,
) -> dict[str, Average]:
    """Means of random arrays, drawn until every standard error is below `rtol` times the largest entry.

    Draws are `sample(seed)`, `sample(seed + 1)`, ..., so that the same call gives the same result. Their
    spread is believed after `MIN_DRAWS` of them: to stop sooner, at a moment when a few draws happen to
    agree, leaves errors larger than stated. It says how many it will take, and is asked again after these.

    Args:
        sample: arrays by name from a seed, independent for different seeds.
        rtol: relative accuracy, of one standard error.
        max_draws: after so many it ends, whatever the accuracy.
        progress: called after each draw.
        cancelled: asked before each draw.

    Raises:
        SpecError: an accuracy that is not positive, or fewer than two draws.
        NumericalError: a draw is not finite.
        Cancelled: as `cancelled` said.

    >>> import torch
    >>> dice = lambda seed: {"x": torch.tensor([float(seed % 6 + 1)])}
    >>> average(dice, rtol=1e-2, max_draws=600)["x"].mean
    tensor([3.5000], dtype=torch.float64)
    """
    check(rtol, max_draws)
    running, target, error = Running(), min(MIN_DRAWS, max_draws), math.inf
    while True:
        while running.draws < target:
            if cancelled():
                raise Cancelled("the Monte-Carlo kernel was cancelled")
            running.add(finite(sample(seed + running.draws), seed + running.draws))
            progress(running.draws, target, error)
        error = running.relative_error()
        if error <= rtol or running.draws == max_draws:
            return running.averages()
        target = min(max_draws, next_check(running.draws, error / rtol))


def next_check(draws: int, excess: float) -> int:
    """When the error will be that many times smaller, by its fall as draws^-1/2; some draws on at least."""
    wanted = draws * min(excess, 1e6) ** 2
    return max(math.ceil(wanted), draws + draws // 16 + 1)


def check(rtol: float, max_draws: int) -> None:
    """The accuracy can be asked for."""
    if not rtol > 0:
        raise SpecError(f"rtol is {rtol}", pointer="/rtol", hint="give a positive number, such as 0.01")
    if max_draws < 2:
        raise SpecError(
            f"max_draws is {max_draws}",
            pointer="/max_draws",
            hint="a standard error needs two draws at least",
        )


def finite(sample: Mapping[str, Tensor], seed: int) -> Mapping[str, Tensor]:
    """The draw, if every number in it is finite."""
    for name, value in sample.items():
        if not bool(value.isfinite().all()):
            raise NumericalError(
                f"the {name} of the network drawn from seed {seed} is not finite",
                hint="scale inputs or weights down, or use laws with lighter tails",
            )
    return sample


@dataclass(frozen=True)
class MonteCarloKernel:
    """`nngp` and `ntk` (n1, n2), each the mean over outputs and over random networks, with standard errors;
    None where it was not asked for. The networks have the shapes `tensors`, so that these are kernels of
    finite width."""

    nngp: Tensor | None
    ntk: Tensor | None
    nngp_stderr: Tensor | None
    ntk_stderr: Tensor | None
    draws: int
    relative_error: float  # the largest standard error over the largest entry, of the worse kernel
    tensors: dict[str, tuple[int, ...]]  # shapes of the trained tensors by name: the widths
    warnings: tuple[str, ...]


def monte_carlo_kernel(
    draw: Callable[[int], nn.Module],
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    get: tuple[Name, ...] = ("nngp", "ntk"),
    rtol: float = 1e-2,
    max_draws: int = 10_000,
    seed: int = 0,
    kernels: Kernels | None = None,
    progress: Progress = ignore,
    cancelled: Callable[[], bool] = never,
) -> MonteCarloKernel:
    """NNGP and NTK averaged over random networks: `E[f_a(x) f_a(x')]` and `E[sum_p df_a(x)/dp df_a(x')/dp]`,
    averaged over the k outputs a.

    These are kernels *at the widths of the networks*. They tend to the infinite-width kernels as these
    widths grow, and differ from them by O(1/width) in general: more draws do not remove that, only wider
    networks do. Standard errors state what the draws leave, not this.

    Args:
        draw: a torch module from a seed, with outputs (n, k) on inputs (n, ...), each row by itself.
            torch's CPU generator is seeded with the seed while it runs, so that torch's own initialisation
            will do; different seeds must give independent weights.
        x1: inputs (n1, ...).
        x2: inputs (n2, ...); None is x1 with itself, whose kernels are symmetric to the last bit.
        get: which kernels.
        rtol: stop when each standard error is below this times the largest entry.
        max_draws: stop after so many networks, with a warning.
        seed: of the first network; the others follow it.
        kernels: computes the kernels of one network; by default `module_kernels`, which takes any module.
        progress: called after each network.
        cancelled: asked before each network.

    Raises:
        SpecError: rtol or max_draws make no sense, or the outputs are not (n, k).
        NumericalError: the kernel of a network is not finite.
        Cancelled: as `cancelled` said.

    Source: Jacot et al. (2018) and Lee et al. (2018) for the kernels that these tend to.

    >>> import torch
    >>> from torch import nn
    >>> draw = lambda seed: nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    >>> kernel = monte_carlo_kernel(draw, torch.tensor([[1.0], [-1.0]], dtype=torch.float64), rtol=0.1)
    >>> kernel.relative_error <= 0.1, kernel.ntk.shape
    (True, torch.Size([2, 2]))
    """
    compute, shapes = kernels or module_kernels, {}

    def sample(seed: int) -> Mapping[str, Tensor]:
        network = seeded(draw, seed)
        shapes.update({name: tuple(p.shape) for name, p in trained(network).items()})
        return compute(network, x1, x2, get)

    averages = average(
        sample, rtol=rtol, max_draws=max_draws, seed=seed, progress=progress, cancelled=cancelled
    )
    error = max(each.relative_error for each in averages.values())
    means = {name: each.mean.to(x1.dtype) for name, each in averages.items()}
    errors = {name: each.stderr.to(x1.dtype) for name, each in averages.items()}
    draws = next(iter(averages.values())).draws
    return MonteCarloKernel(
        nngp=means.get("nngp"),
        ntk=means.get("ntk"),
        nngp_stderr=errors.get("nngp"),
        ntk_stderr=errors.get("ntk"),
        draws=draws,
        relative_error=error,
        tensors=shapes,
        warnings=tuple(remarks(draws, error, rtol)),
    )


def remarks(draws: int, error: float, rtol: float) -> Iterator[str]:
    """What to know of the result."""
    yield (
        f"this is the mean over {draws} random networks of the given widths, with a standard error of "
        f"{error:.2g} of the largest entry, which does not include its distance from the infinite-width "
        "kernel: O(1/width)"
    )
    if error > rtol:
        yield (
            f"the accuracy asked for, {rtol:g}, was not reached in {draws} draws: it takes about "
            f"{next_check(draws, error / rtol)}"
        )


def seeded(draw: Callable[[int], nn.Module], seed: int) -> nn.Module:
    """The network of a seed; torch's CPU generator is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return draw(seed)


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """The tensors of a network that are trained."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def module_kernels(
    network: nn.Module, x1: Tensor, x2: Tensor | None, get: tuple[Name, ...]
) -> dict[str, Tensor]:
    """The kernels (n1, n2) of any module at its weights, averaged over outputs; it is put in evaluation mode.

    By one backward pass for each input and output, which needs nothing of the module but its gradient; the
    Jacobians of both sets of inputs are held at once, `(n1 + n2) k` times the number of trained numbers.

    Raises:
        SpecError: the outputs are not (n, k), or nothing is trained.
    """
    network.eval()
    first = Jacobian.of(network, x1)
    second = first if x2 is None else Jacobian.of(network, x2)
    both = {
        "nngp": lambda: first.outputs @ second.outputs.T,
        "ntk": lambda: first.derivatives @ second.derivatives.T,
    }
    result = {name: both[name]() / first.k for name in get}
    return {name: (each + each.T) / 2 if x2 is None else each for name, each in result.items()}


@dataclass(frozen=True)
class Jacobian:
    """A network's outputs on n inputs, (n, k), and their derivatives by every trained number, (n, k p)."""

    outputs: Tensor
    derivatives: Tensor
    k: int

    @classmethod
    def of(cls, network: nn.Module, x: Tensor) -> Jacobian:
        """On the inputs x, one by one."""
        import torch

        tensors = list(trained(network).values())
        if not tensors:
            raise SpecError("the network has no trained tensor", hint="leave requires_grad as torch sets it")
        rows, outputs = [], []
        for row in x:
            with torch.enable_grad():
                y = network(row[None])
            if y.ndim != 2:
                raise SpecError(
                    f"the network returned shape {tuple(y.shape)} on one input, expected (1, k)",
                    hint="let the module end with k outputs for each input, such as those of a linear layer",
                )
            gradients = [
                torch.autograd.grad(each, tensors, retain_graph=True, materialize_grads=True) for each in y[0]
            ]
            rows.append(torch.cat([part.flatten() for gradient in gradients for part in gradient]))
            outputs.append(y[0].detach())
        return cls(torch.stack(outputs), torch.stack(rows), outputs[0].numel())
