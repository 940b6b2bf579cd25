"""Networks whose first layer draws from any law, through the public functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ntkengine import KernelSpec, UnsupportedError, compute_kernel, empirical_ntk, infinite_kernel
from ntkengine.analysis import diagnose
from ntkengine.spec import from_jsonable
from tests.cases import HALF, UNIFORM, inputs, model
from tests.compare import assert_close

UNIFORM_FIRST = {"kind": "dense", "width": 512, "W_law": UNIFORM, "b_std": 1.0, "b_law": HALF}
DEEPER = {"kind": "dense", "width": 512, "W_std": 1.3, "b_std": 0.2}
READOUT = {"kind": "dense", "width": 1}
RELU = {"kind": "relu"}


def test_a_relu_on_a_line_is_exact() -> None:
    """`E[relu(w + b)^2] = (1/3 + 1/12) / 2` for the uniform laws of the notes, and its slope is 1/2."""
    kernel = infinite_kernel(model([UNIFORM_FIRST, RELU, READOUT]), torch.tensor([[1.0], [-1.0]]).double())
    assert kernel.method == "moments"
    assert_close(kernel.nngp.diag(), [5 / 24, 5 / 24])
    assert_close(kernel.ntk.diag(), [5 / 24 + (1 + 1) / 2, 5 / 24 + (1 + 1) / 2])


@pytest.mark.parametrize(
    "law", [UNIFORM, {"kind": "rademacher"}, {"kind": "laplace"}, {"kind": "student_t", "df": 9}], ids=str
)
@pytest.mark.parametrize("act", [RELU, {"kind": "tanh"}, {"kind": "gelu"}], ids=str)
def test_deep_networks_against_samples(law: dict[str, Any], act: dict[str, Any]) -> None:
    """Only the first layer keeps its law; 20 networks agree within 4 standard errors and O(1/N)."""
    first = UNIFORM_FIRST | {"W_law": law}
    spec = model([first, act, DEEPER, {"kind": "erf"}, READOUT])
    x = inputs(3, 2)
    kernel = infinite_kernel(spec, x)
    drawn = torch.stack([empirical_ntk(spec.network((2,), seed=seed), x) for seed in range(20)])
    spread = 4.0 * drawn.std(0) / 20**0.5
    known = (4.0 * kernel.entry_error + 4.0 / 512) * kernel.ntk.abs().max()
    assert bool(((drawn.mean(0) - kernel.ntk).abs() <= spread + known).all())


def test_quadrature_states_its_standard_error_and_is_a_gram_matrix() -> None:
    request = {
        "model": {"layers": [UNIFORM_FIRST, RELU, DEEPER, RELU, READOUT]},
        "x1": inputs(40, 5).numpy(),
    }
    result = compute_kernel(from_jsonable(KernelSpec, request))
    assert result.method["kind"] == "quadrature"
    assert 0 < result.method["stderr"] < 5e-3
    assert result.method["error_bound"] is None
    diagnose(torch.as_tensor(result.kernels["ntk"]))  # raises unless positive semi-definite
    again = compute_kernel(from_jsonable(KernelSpec, request))
    assert (again.kernels["ntk"] == result.kernels["ntk"]).all()


def test_a_polynomial_of_high_degree_is_sampled() -> None:
    """Its cumulants cancel; of low degree it is exact, and both routes agree."""
    high = model([UNIFORM_FIRST, {"kind": "hermite", "degree": 8}, READOUT])
    assert infinite_kernel(high, inputs(3, 4)).method == "quadrature"
    low = model([UNIFORM_FIRST, {"kind": "quadratic"}, READOUT])
    assert infinite_kernel(low, inputs(3, 4)).method == "moments"


@pytest.mark.parametrize(("df", "act"), [(3.5, {"kind": "quadratic"}), (1.5, RELU), (9.0, {"kind": "exp"})])
def test_what_does_not_exist_is_refused_by_path(df: float, act: dict[str, Any]) -> None:
    first = UNIFORM_FIRST | {"W_law": {"kind": "student_t", "df": df}}
    with pytest.raises(UnsupportedError, match=r"layers\.[01]: ") as caught:
        infinite_kernel(model([first, act, READOUT]), inputs(3, 2))
    assert caught.value.pointer in {"/layers/0", "/layers/1"}
    assert caught.value.hint


def test_laws_of_deeper_biases_and_of_convolutions_are_refused_but_for_polynomials() -> None:
    deeper = [UNIFORM_FIRST, RELU, DEEPER | {"b_law": UNIFORM}, RELU, READOUT]
    with pytest.raises(UnsupportedError, match=r"layers\.3: relu .*not normal"):
        infinite_kernel(model(deeper), inputs(3, 2))
    conv = {"kind": "conv", "filter_shape": [2], "W_law": UNIFORM}
    x = inputs(12).reshape(3, 4, 4)
    with pytest.raises(UnsupportedError, match=r"layers\.1: relu .*not normal"):
        infinite_kernel(model([conv, RELU, {"kind": "flatten"}, READOUT]), x)
    for pool in ("flatten", "global_avg_pool"):
        spec = model([conv | {"width": 400}, {"kind": "quadratic"}, {"kind": pool}, READOUT])
        kernel = infinite_kernel(spec, x)
        drawn = torch.stack([empirical_ntk(spec.network((4, 4), seed=seed), x) for seed in range(20)])
        spread = 4.0 * drawn.std(0) / 20**0.5 + 4.0 / 400 * kernel.ntk.abs().max()
        assert bool(((drawn.mean(0) - kernel.ntk).abs() <= spread).all())


def test_all_blocks_have_the_same_nodes() -> None:
    """The same input in the first block and in the last, among others that need fewer points or more."""
    x = inputs(80, 3)
    x[:40] *= 0.02
    x[-1] = x[0]
    kernel = infinite_kernel(model([UNIFORM_FIRST, RELU, READOUT]), x, budget=18_000_000)
    assert kernel.plan.count > 1
    for square in (kernel.nngp, kernel.ntk):
        assert float((square[0, 1:-1] - square[-1, 1:-1]).abs().max()) < 1e-13 * float(square.abs().max())
