"""Monte-Carlo kernels, held to closed forms and to the errors that they state."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ntkengine import (
    Cancelled,
    Model,
    NumericalError,
    SpecError,
    empirical_nngp,
    empirical_ntk,
    infinite_kernel,
)
from ntkengine.infinite.monte_carlo import (
    MIN_DRAWS,
    MonteCarloKernel,
    Name,
    average,
    module_kernels,
    monte_carlo_kernel,
)
from ntkengine.network import Network
from tests.cases import inputs, model
from tests.compare import assert_close

ONE = [{"kind": "dense", "width": 24, "b_std": 0.3}, {"kind": "erf"}, {"kind": "dense", "width": 3}]
TWO = [*ONE[:2], {"kind": "dense", "width": 24, "b_std": 0.3}, {"kind": "relu"}, ONE[2]]


def networks(spec: Model, d: int = 4) -> Callable[[int], Network]:
    return lambda seed: spec.network((d,), seed=seed)


def of_networks(
    network: nn.Module, x1: Tensor, x2: Tensor | None, get: tuple[Name, ...]
) -> Mapping[str, Tensor]:
    """The kernels of a spec's network, by the room that knows its layers."""
    assert isinstance(network, Network)
    computed = {"nngp": empirical_nngp, "ntk": empirical_ntk}
    return {name: computed[name](network, x1, x2) for name in get}


def errors(kernel: MonteCarloKernel, nngp: Tensor, ntk: Tensor) -> np.ndarray:
    """Deviations from the expected values in units of the stated standard errors."""
    assert kernel.nngp is not None
    assert kernel.nngp_stderr is not None
    assert kernel.ntk is not None
    assert kernel.ntk_stderr is not None
    nngps, ntks = (kernel.nngp - nngp) / kernel.nngp_stderr, (kernel.ntk - ntk) / kernel.ntk_stderr
    return torch.cat([nngps.flatten(), ntks.flatten()]).numpy()


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_one_hidden_layer_averages_to_the_closed_form(parameterization: str) -> None:
    """With one hidden layer the mean is the limit at every width: neurons are independent."""
    spec = model(ONE, parameterization={"kind": parameterization})
    x1, x2 = inputs(3), inputs(2, seed=1)
    exact = infinite_kernel(spec, x1, x2, widths="as_given")
    kernel = monte_carlo_kernel(networks(spec), x1, x2, rtol=0.05, kernels=of_networks)
    assert kernel.relative_error <= 0.05
    assert np.abs(errors(kernel, exact.nngp, exact.ntk)).max() < 4


def test_a_deep_network_differs_from_the_limit_by_its_width() -> None:
    """E[f^2] of two quadratic layers of width N at x = 1 is 27 + 288 / N: given the first layer, outputs of
    the second are Gaussian with variance Q, the mean of N fourth powers, and E[f^2] = 3 E[Q^2]."""
    width = 32
    layers = [{"kind": "dense", "width": width}, {"kind": "quadratic"}] * 2
    spec = model([*layers, {"kind": "dense", "width": 40}])
    x = torch.ones(1, 1, dtype=torch.float64)
    assert_close(infinite_kernel(spec, x).nngp, [[27.0]])
    kernel = monte_carlo_kernel(networks(spec, 1), x, get=("nngp",), rtol=0.03, kernels=of_networks)
    assert kernel.ntk is None
    assert kernel.nngp is not None
    assert kernel.nngp_stderr is not None
    mean, error = float(kernel.nngp), float(kernel.nngp_stderr)
    assert abs(mean - (27 + 288 / width)) < 4 * error
    assert mean - 27 > 4 * error


def squares(seed: int) -> dict[str, Tensor]:
    """Skewed as the second moment of three outputs is, with mean 1."""
    values = np.random.default_rng(seed).normal(size=(3, 4))
    return {"x": torch.from_numpy((values**2).mean(0))}


@pytest.mark.parametrize(("rtol", "draws"), [(0.06, 190), (0.4, MIN_DRAWS)])
def test_stated_errors_are_those_that_are_made(rtol: float, draws: int) -> None:
    """Over many runs, errors in units of the stated ones have mean 0 and standard deviation 1."""
    runs = [average(squares, rtol=rtol, max_draws=1000, seed=10**4 * run)["x"] for run in range(200)]
    assert np.median([run.draws for run in runs]) == pytest.approx(draws, rel=0.3)
    deviations = torch.stack([(run.mean - 1.0) / run.stderr for run in runs])
    assert abs(float(deviations.mean())) < 0.25
    assert float(deviations.std()) == pytest.approx(1.0, abs=0.12)


def normal(seed: int) -> dict[str, Tensor]:
    """One number with mean 1 and standard deviation 2, and one that is exact."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": 1.0 + 2.0 * torch.randn(1, generator=generator, dtype=torch.float64),
        "one": torch.ones(1, dtype=torch.float64),
    }


@pytest.mark.parametrize("rtol", [0.1, 0.05])
def test_it_stops_at_the_accuracy_asked_for(rtol: float) -> None:
    """(2 / rtol)^2 draws, within what is needed to see that: not many more, never too few."""
    result = average(normal, rtol=rtol, max_draws=10**5)
    needed = (2.0 / rtol) ** 2
    assert result["x"].relative_error <= rtol
    assert 0.75 * needed < result["x"].draws < 1.35 * needed
    assert result["one"].relative_error == 0.0


def test_mean_and_error_of_the_draws() -> None:
    result = average(normal, rtol=1e-9, max_draws=50, seed=7)["x"]
    drawn = torch.cat([normal(seed)["x"] for seed in range(7, 57)])
    assert_close(result.mean, drawn.mean()[None], rtol=1e-14)
    assert_close(result.stderr, drawn.std()[None] / 50**0.5, rtol=1e-14)


def test_zero_has_no_error_and_noise_around_it_is_never_accurate() -> None:
    zero = average(lambda seed: {"x": torch.zeros(2)}, rtol=0.1, max_draws=1000)
    assert zero["x"].draws == MIN_DRAWS
    noise = average(lambda seed: {"x": torch.tensor([(-1.0) ** seed])}, rtol=0.1, max_draws=100)
    assert noise["x"].draws == 100
    assert noise["x"].relative_error > 1e6


def test_the_end_of_the_draws_is_said() -> None:
    kernel = monte_carlo_kernel(networks(model(ONE)), inputs(2), rtol=1e-3, max_draws=40)
    assert kernel.draws == 40
    assert any("was not reached in 40 draws" in warning for warning in kernel.warnings)
    assert any("O(1/width)" in warning for warning in kernel.warnings)
    assert kernel.tensors == {"layers.0.W": (4, 24), "layers.0.b": (24,), "layers.2.W": (24, 3)}


class Recurrent(nn.Module):
    """A GRU over a sequence, read out at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(2, 6, batch_first=True)
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.cell(x)[0][:, -1])
        return y


def recurrent(seed: int) -> nn.Module:
    return Recurrent().double()


def pooled(seed: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(20, 2)
    ).double()


def sequences(n: int, seed: int = 0) -> Tensor:
    return inputs(n, 10, seed=seed).reshape(n, 5, 2)


def images(n: int, seed: int = 0) -> Tensor:
    return inputs(n, 36, seed=seed).reshape(n, 1, 6, 6)


@pytest.mark.parametrize(("draw", "data"), [(recurrent, sequences), (pooled, images)])
def test_modules_of_ones_own(draw: Callable[[int], nn.Module], data: Callable[..., Tensor]) -> None:
    """Against each output's gradient, by hand, over the same seeds."""
    x1, x2, draws = data(2), data(3, seed=1), 5
    total = torch.zeros(2, 3, dtype=torch.float64)
    for seed in range(draws):
        torch.manual_seed(seed)
        network = draw(seed).eval()
        for i, first in enumerate(x1):
            for j, second in enumerate(x2):
                total[i, j] += sum(by_hand(network, first, second, a) for a in range(2)) / 2
    state = torch.get_rng_state()
    kernel = monte_carlo_kernel(draw, x1, x2, rtol=1e-9, max_draws=draws)
    assert torch.equal(torch.get_rng_state(), state)
    assert kernel.ntk is not None
    assert_close(kernel.ntk, total / draws)


def by_hand(network: nn.Module, first: Tensor, second: Tensor, a: int) -> float:
    gradients = [
        torch.autograd.grad(network(x[None])[0, a], list(network.parameters())) for x in (first, second)
    ]
    return sum(float((p * q).sum()) for p, q in zip(*gradients, strict=True))


def test_any_module_agrees_with_the_networks_of_specs() -> None:
    """On a spec's network, frozen twin and all, two independent ways to the same kernels."""
    network = model(TWO, initial_function="centred").network((4,), seed=2)
    with torch.no_grad():
        for tensor in network.trained().values():
            tensor.add_(0.1)
    both: tuple[Name, ...] = ("nngp", "ntk")
    for x2 in (None, inputs(2, seed=1)):
        ours = module_kernels(network, inputs(3), x2, both)
        theirs = of_networks(network, inputs(3), x2, both)
        for name in both:
            assert_close(ours[name], theirs[name])


def test_the_same_call_gives_the_same_kernel() -> None:
    first, second = (monte_carlo_kernel(recurrent, sequences(3), rtol=0.5) for _ in range(2))
    assert first.ntk is not None
    assert second.ntk is not None
    assert torch.equal(first.ntk, second.ntk)
    assert torch.equal(first.ntk, first.ntk.T)
    other = monte_carlo_kernel(recurrent, sequences(3), rtol=0.5, seed=100)
    assert other.ntk is not None
    assert not torch.equal(first.ntk, other.ntk)


def test_float32() -> None:
    kernel = monte_carlo_kernel(
        lambda seed: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)), inputs(2).float(), rtol=0.5
    )
    assert kernel.ntk is not None
    assert kernel.ntk.dtype == torch.float32


def test_progress_and_cancelling() -> None:
    seen: list[tuple[int, int, float]] = []
    average(normal, rtol=0.2, max_draws=1000, progress=lambda *said: seen.append(said))
    assert [done for done, _, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1]
    assert seen[-1][2] > 0.2
    with pytest.raises(Cancelled):
        average(normal, rtol=1e-9, max_draws=10**6, cancelled=lambda: len(seen) > 0)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"rtol": 0.0}, SpecError),
        ({"rtol": float("nan")}, SpecError),
        ({"max_draws": 1}, SpecError),
        ({"draw": lambda seed: nn.Flatten(0).double()}, SpecError),
        ({"draw": lambda seed: nn.Linear(4, 1).double().requires_grad_(False)}, SpecError),
        ({"x1": torch.full((1, 4), float("inf"), dtype=torch.float64)}, NumericalError),
    ],
)
def test_what_is_refused(fields: dict[str, Any], error: type[Exception]) -> None:
    base: dict[str, Any] = {"draw": lambda seed: nn.Linear(4, 1).double(), "x1": inputs(2)}
    with pytest.raises(error):
        monte_carlo_kernel(**(base | fields))
