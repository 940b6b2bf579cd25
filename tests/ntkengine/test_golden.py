"""Against kernels that were computed by another system (see tests/golden)."""

from typing import Any

import numpy as np
import pytest
import torch

from ntkengine import Model, compute_kernel, empirical_nngp, empirical_ntk
from ntkengine.kernels import KernelSpec
from ntkengine.spec import from_jsonable
from tests.compare import assert_close
from tests.reference_kernels import arrays, check_infinite, diagonals, of_kind


@pytest.mark.parametrize("case", of_kind("infinite"))
def test_infinite(case: dict[str, Any]) -> None:
    check_infinite(case, lambda request: compute_kernel(from_jsonable(KernelSpec, request)).kernels)


ONE_HIDDEN = [
    param
    for param in of_kind("infinite")
    if param.id.startswith("act1_") and param.id != "act1_expnormalized"  # which has no function
]


@pytest.mark.parametrize("case", ONE_HIDDEN)
def test_diagonals_by_quadrature(case: dict[str, Any]) -> None:
    """Far closer than the reference, which is off there by up to 1e-6."""
    request = {"model": case["model"], "x1": arrays(case)["x1"], "of": {"kind": "infinite"}}
    kernels = compute_kernel(from_jsonable(KernelSpec, request)).kernels
    for name, want in diagonals(case).items():
        assert_close(np.diag(kernels[name]), want)


@pytest.mark.parametrize("implementation", ["jacobian_contraction", "structured_derivatives"])
@pytest.mark.parametrize("case", of_kind("finite"))
def test_finite(case: dict[str, Any], implementation: str) -> None:
    known = arrays(case)
    model: Model = from_jsonable(Model, case["model"])
    network = model.network(known["x1"].shape[1:], weights={name: known[name] for name in case["weights"]})
    x1, x2 = torch.from_numpy(known["x1"]), torch.from_numpy(known["x2"])
    rtol = case["rtol"]
    assert_close(network(x1), known["f_x1"], rtol=rtol)
    full_11 = empirical_ntk(network, x1, outputs="full", implementation=implementation)
    assert_close(full_11, known["ntk_11"], rtol=rtol)
    assert_close(
        torch.einsum("ijab,jb->ia", full_11, torch.from_numpy(known["ntkvp_u"])),
        known["ntkvp_11_u"],
        rtol=rtol,
    )
    full_12 = empirical_ntk(network, x1, x2, outputs="full", implementation=implementation)
    assert_close(full_12, known["ntk_12"], rtol=rtol)
    mean = empirical_ntk(network, x1, x2, outputs="mean", implementation=implementation)
    assert_close(mean, known["ntk_trace_12"], rtol=rtol)
    assert_close(empirical_nngp(network, x1, x2, outputs="mean"), known["nngp_trace_12"], rtol=rtol)
