"""What blocks of empirical kernels are made of: derivatives that go back, and gradients from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

from ntkengine.blocks import PROBES, Gradients, in_proportion
from ntkengine.empirical.forms import ConvForm
from tests.compare import assert_close


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


CONVOLUTIONS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "plain": (nn.Conv1d(2, 3, 3), (2, 7)),
    "strides that leave a remainder": (nn.Conv1d(2, 3, 3, stride=3), (2, 10)),
    "padding and dilation": (nn.Conv2d(2, 3, (3, 2), padding=(2, 1), dilation=(2, 1)), (2, 6, 5)),
    "strides, a remainder, padding": (nn.Conv2d(2, 3, 3, stride=(2, 3), padding=1), (2, 6, 7)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2, bias=False), (4, 5, 5)),
    "depthwise": (nn.Conv2d(3, 3, 2, groups=3), (3, 4, 4)),
    "three axes": (nn.Conv3d(1, 2, 2, stride=(1, 2, 1)), (1, 3, 5, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_derivatives_go_back_through_a_convolution(name: str) -> None:
    module, shape = CONVOLUTIONS[name][0].double(), CONVOLUTIONS[name][1]
    h = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    y = module(h)
    g = torch.randn(3, *y.shape, dtype=torch.float64)
    wanted = torch.stack([torch.autograd.grad(y, h, each, retain_graph=True)[0] for each in g])

    passed = ConvForm().passing_back(module, h, y)
    assert torch.equal(passed, y)

    def back(each: Tensor) -> Tensor:
        return torch.autograd.grad(passed, h, each, retain_graph=True)[0]

    assert_close(back(g[0]), wanted[0], rtol=1e-12)
    assert_close(vmap(back)(g), wanted, rtol=1e-12)


def proportional(places: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Factors (n, k, 1, width), and derivatives g (n, k, places, width) in proportion by them. One channel is
    0 everywhere."""
    factors = torch.randn(2, 3, 1, 4, dtype=dtype)
    shape = torch.randn(2, 1, places, 4, dtype=dtype).relu()
    shape[1, ..., 2] = 0
    return factors, factors * shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_of_outputs_in_proportion(
    dtype: torch.dtype, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors, g = proportional(100, dtype)
    found = in_proportion(g)
    assert found is not None
    wanted = (factors / factors[:, :1])[:, :, 0]
    wanted[1, :, 2] = 0
    rtol = 1e-4 if dtype == torch.float32 else 1e-12
    assert_close(found, wanted, rtol=rtol)

    h = torch.randn(2, 100, 6, dtype=dtype)

    def gradients() -> Tensor:
        room = Gradients.room(2, 3, h, g, groups)
        room.write(slice(2), slice(3), h, g)
        return room.weights

    short = gradients()
    monkeypatch.setattr("ntkengine.blocks.in_proportion", lambda _: None)
    assert_close(short, gradients(), rtol=rtol)


@pytest.mark.parametrize("row", [0, 1])
def test_derivatives_that_are_not_in_proportion(row: int) -> None:
    """A single number that is off is found, by its size down to rounding."""
    for off in (1.0, 1e-3, 1e-9):
        _, g = proportional(100, torch.float64)
        g[row, 1, 37, 3] += off * g[row, 1].abs().amax()
        assert in_proportion(g) is None
    _, g = proportional(100, torch.float64)
    g[row, 0, :, 1] = 0  # of the one that the others are compared with
    assert in_proportion(g) is None


def test_few_positions_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    _, g = proportional(2 * PROBES, torch.float64)
    monkeypatch.setattr(torch, "randn", None)  # is not called
    assert in_proportion(g) is None


def test_where_a_network_averages_over_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last convolution's derivatives are in proportion, those of the one before are not."""
    from ntkengine import blocks, empirical_ntk

    seen: list[bool] = []

    def told(g: Tensor) -> Any:
        found = in_proportion(g)
        seen.append(found is not None)
        return found

    convolutions = (nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Tanh())
    module = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).double()
    x = torch.randn(3, 2, 10, 10, dtype=torch.float64)
    wanted = empirical_ntk(module, x, outputs="full", implementation="jacobian_contraction")
    monkeypatch.setattr(blocks, "in_proportion", told)
    got = empirical_ntk(module, x, outputs="full", implementation="structured_derivatives")
    assert_close(got, wanted, rtol=1e-12)
    assert sorted(set(seen)) == [False, True]
