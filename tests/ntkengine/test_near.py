"""Pairs of inputs that nearly coincide, or nearly oppose each other, against mpmath."""

from __future__ import annotations

from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor

from ntkengine import infinite_kernel
from tests.cases import ACTIVATIONS, model, with_activation
from tests.compare import assert_close

W, B = 1.3, 0.2  # of every layer below
RELU = {"kind": "relu"}


def exact_relu(x: Tensor, y: Tensor, depth: int) -> tuple[Any, Any]:
    """NNGP and NTK of a ReLU network with `depth` hidden layers, in 60 digits."""
    mpmath.mp.dps = 60
    a, b = ([mpmath.mpf(float(v)) for v in row] for row in (x, y))
    w, bias = mpmath.mpf(W) ** 2, mpmath.mpf(B) ** 2
    q11, q12, q22 = (mpmath.fdot(u, v) / len(a) * w + bias for u, v in ((a, a), (a, b), (b, b)))
    ntk = q12
    for _ in range(depth):
        length = mpmath.sqrt(q11 * q22)
        c = q12 / length
        t = mpmath.acos(c)
        slope = (mpmath.pi - t) / (2 * mpmath.pi)
        value = length * (mpmath.sqrt(1 - c * c) + (mpmath.pi - t) * c) / (2 * mpmath.pi)
        q11, q22, q12 = q11 / 2 * w + bias, q22 / 2 * w + bias, value * w + bias
        ntk = q12 + ntk * slope * w
    return q12, ntk


def squared_distance(kernel: Tensor) -> Tensor:
    return kernel[0, 0] + kernel[1, 1] - 2.0 * kernel[0, 1]


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("angle", [1e-2, 1e-4, 1e-6, 1e-8, 0.0])
def test_relu(angle: float, depth: int) -> None:
    """At angle 1e-6 arccos of a cosine is off by 1e-4 of the angle; here entries are right to rounding."""
    x = torch.tensor([[0.6, 0.8, -0.3], [0.6, 0.8 + angle, -0.3]], dtype=torch.float64)
    layers = [each for _ in range(depth) for each in ({"kind": "dense", "W_std": W, "b_std": B}, RELU)]
    kernel = infinite_kernel(model([*layers, {"kind": "dense", "width": 1, "W_std": W, "b_std": B}]), x)
    nngp, ntk = exact_relu(x[0], x[1], depth)
    assert abs(float(nngp) / float(kernel.nngp[0, 1]) - 1.0) < 1e-14
    assert abs(float(ntk) / float(kernel.ntk[0, 1]) - 1.0) < 1e-13
    assert kernel.entry_error < 1e-12


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("act", [a for a in ACTIVATIONS if a["kind"] != "sign"], ids=lambda a: a["kind"])
def test_continuous_through_the_kink(act: dict[str, Any], sign: float) -> None:
    """The NTK of two nearly collinear inputs is smooth in their angle, or a root of it has no noise: along
    geometric steps of the angle, differences to the limit shrink in proportion (or faster)."""
    dense = {"kind": "dense", "W_std": 1.1, "b_std": 0.0}
    spec = model(with_activation([dense, None, dense, None, dense | {"width": 1}], act))
    base = torch.tensor([0.6, 0.8], dtype=torch.float64)
    steps = torch.tensor([10.0**-k for k in (4, 5, 6, 7)], dtype=torch.float64)
    others = sign * torch.stack([base + t * torch.tensor([-0.8, 0.6], dtype=torch.float64) for t in steps])
    kernel = infinite_kernel(spec, base[None], torch.cat((sign * base[None], others))).ntk[0]
    gaps = (kernel[1:] - kernel[0]).abs() / kernel.abs().max()
    noise = 1e-14
    assert bool((gaps[1:] <= gaps[:-1] / 3.0 + noise).all()), gaps.tolist()


def test_a_grid_on_a_line_without_bias() -> None:
    """All inputs are collinear: every pair is computed apart, and right."""
    x = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)[:, None]
    dense = {"kind": "dense", "W_std": 2**0.5}
    kernel = infinite_kernel(model([dense, RELU, dense, RELU, dense | {"width": 1}]), x)
    product = torch.relu(x @ x.T)  # same side: x x'; opposite sides: E[relu(z) relu(-z')] = 0, then q12 = 0
    side = (x @ x.T) > 0
    assert_close(kernel.ntk[side], (6.0 * product)[side])
    assert kernel.entry_error < 1e-12


def test_float32_near_pairs_are_as_accurate_as_the_rest() -> None:
    x = torch.tensor([[0.6, 0.8, -0.3], [0.6, 0.8 + 1e-4, -0.3]])
    layers = [{"kind": "dense", "W_std": W, "b_std": B}, RELU] * 3
    spec = model([*layers, {"kind": "dense", "width": 1, "W_std": W, "b_std": B}])
    single, exact = infinite_kernel(spec, x).ntk, infinite_kernel(spec, x.double()).ntk
    assert_close(single, exact.float(), rtol=1e-6)
