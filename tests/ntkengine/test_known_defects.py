"""What other systems get wrong must be right here."""

from __future__ import annotations

import pytest
import torch

from ntkengine import Elementwise, Model, infinite_kernel
from ntkengine.spec import from_jsonable
from tests.cases import inputs, model
from tests.compare import assert_close

DENSE = {"kind": "dense", "W_std": 1.3, "b_std": 0.2}
READOUT = {"kind": "dense", "width": 1}


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_rectified_monomials_of_an_input_with_itself_are_finite(degree: int) -> None:
    x = inputs(3)
    spec = model([DENSE, {"kind": "rectified_monomial", "degree": degree}, READOUT])
    square, rectangle = infinite_kernel(spec, x), infinite_kernel(spec, x, x.clone())
    assert_close(rectangle.ntk, square.ntk)
    assert_close(rectangle.nngp, square.nngp)


@pytest.mark.parametrize("bias", [None, 0.2])
@pytest.mark.parametrize(
    "act", [{"kind": "relu"}, {"kind": "gelu"}, {"kind": "abs"}, {"kind": "tanh"}, {"kind": "erf"}]
)
def test_a_row_of_zeros_gives_numbers(act: dict[str, str], bias: float | None) -> None:
    x = torch.cat((torch.zeros(1, 4, dtype=torch.float64), inputs(2)))
    kernel = infinite_kernel(model([DENSE | {"b_std": bias}, act, DENSE | {"b_std": bias}, act, READOUT]), x)
    assert bool(torch.isfinite(kernel.ntk).all())
    assert bool(torch.isfinite(kernel.nngp).all())


def test_relu_without_its_closed_form_is_right() -> None:
    """Gauss-Hermite quadrature, which others use for any function, is off by up to 2 % here."""
    x = inputs(6)
    numeric = Elementwise(fn=torch.relu, kinks=(0.0,))
    layers = model([DENSE, {"kind": "relu"}, DENSE, {"kind": "relu"}, READOUT]).layers
    by_numbers = Model(layers=tuple(numeric if each.kind == "relu" else each for each in layers))
    exact, got = infinite_kernel(Model(layers=layers), x), infinite_kernel(by_numbers, x)
    assert_close(got.ntk, exact.ntk, rtol=1e-10)
    assert_close(got.nngp, exact.nngp, rtol=1e-10)
    assert got.entry_error < 1e-7


@pytest.mark.parametrize("n", [1, 7, 513, 1000])
def test_any_number_of_inputs(n: int) -> None:
    """No size has to divide another."""
    spec = from_jsonable(Model, {"layers": [DENSE, {"kind": "relu"}, READOUT]})
    x = inputs(n, 3)
    kernel = infinite_kernel(spec, x, budget=64 * 1024**2).ntk
    assert kernel.shape == (n, n)
    assert_close(kernel[-1:], infinite_kernel(spec, x[-1:], x).ntk, rtol=1e-11)
