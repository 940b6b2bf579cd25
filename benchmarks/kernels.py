"""Empirical kernels against other ways to the same result, in one invocation."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch.func import functional_call, jacrev, vmap

from ntkengine import Dense, Model, Relu, empirical_ntk
from ntkengine.empirical import IMPLEMENTATIONS
from ntkengine.network import Network


def least(call: Callable[[], object], repeats: int = 5) -> float:
    """The shortest of some times, in seconds, after one call to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def empirical() -> dict[str, float]:
    """MLP 784-512-512-512-10 ReLU in float32, n = 16, full 10 x 10 blocks."""
    check()
    widths = (512, 512, 512)
    hidden = [layer for width in widths for layer in (Dense(width=width, W_std=2**0.5), Relu())]
    network = Model(layers=(*hidden, Dense(width=10))).network((784,), dtype=torch.float32)
    x = torch.randn(16, 784, generator=torch.Generator().manual_seed(0))
    seconds = {}
    for name in IMPLEMENTATIONS:
        call = partial(empirical_ntk, network, x, outputs="full", implementation=name)
        seconds[f"empirical, {name}"] = least(call, 3)
    tutorial = least(lambda: by_the_tutorial(network, x), 3)
    best = min(seconds.values())
    return seconds | {"  torch.func, as in its tutorial": tutorial, "  ratio to the best": tutorial / best}


def by_the_tutorial(network: Network, x: torch.Tensor) -> torch.Tensor:
    """The NTK as torch's documentation computes it: whole Jacobians, contracted tensor by tensor."""
    params = {name: p.detach() for name, p in network.named_parameters()}

    def single(params: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = functional_call(network, params, (row[None],))
        return outputs[0]

    jacobians = vmap(jacrev(single), (None, 0))(params, x)
    flat = [jacobian.flatten(2) for jacobian in jacobians.values()]
    return torch.stack([torch.einsum("naf,mbf->nmab", each, each) for each in flat]).sum(0)


def check() -> None:
    """What is compared is the same kernel."""
    network = Model(layers=(Dense(width=32), Relu(), Dense(width=3))).network((8,))
    x = torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(by_the_tutorial(network, x), empirical_ntk(network, x, outputs="full"))
