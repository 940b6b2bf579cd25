"""Against kernels that were computed by another system (see tests/golden)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ntkengine import NTK, Dense, Model, compute_kernel, empirical_nngp, empirical_ntk
from ntkengine.activations import Activation
from ntkengine.kernels import KernelSpec
from ntkengine.reference.duals import nodes
from ntkengine.spec import from_jsonable
from tests.compare import assert_close

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "manifest.json").read_text())["cases"]


def of_kind(kind: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in CASES if case["kind"] == kind]


def arrays(case: dict[str, Any]) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / case["arrays"], allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize("case", of_kind("infinite"))
def test_infinite(case: dict[str, Any]) -> None:
    known = arrays(case)
    of = {"kind": "infinite", "widths": case.get("widths", "limit")}
    for suffix, x2 in (("11", None), ("12", known["x2"])):
        request = {"model": case["model"], "x1": known["x1"], "x2": x2, "of": of}
        kernels = compute_kernel(from_jsonable(KernelSpec, request)).kernels
        for name in ("nngp", "ntk"):
            got, want = kernels[name], known[f"{name}_{suffix}"]
            if x2 is None and "nonfinite" in case:
                want = with_finite_diagonal(case, name, want)
            if x2 is None:
                same = coincident(known["x1"])
                assert_close(got[same], want[same], rtol=case["rtol_11_diagonal"])
                got[same] = want[same]
            assert_close(got, want, rtol=case["rtol"])


def coincident(x: np.ndarray) -> np.ndarray:
    """The pairs of inputs that are the same: the reference is off there."""
    rows = x.reshape(len(x), -1)
    same: np.ndarray = np.abs(rows[:, None] - rows[None]).max(-1) == 0
    return same


def with_finite_diagonal(case: dict[str, Any], name: str, kernel: np.ndarray) -> np.ndarray:
    """The reference, with its diagonal, where it has no number, by quadrature."""
    assert np.array_equal(np.isnan(kernel), np.eye(len(kernel), dtype=bool))
    assert case["nonfinite"][f"{name}_11"] == len(kernel)
    return np.where(np.isnan(kernel), np.diag(diagonals(case)[name]), kernel)


def diagonals(case: dict[str, Any]) -> dict[str, np.ndarray]:
    """`K(x, x)` and `Theta(x, x)` by quadrature, for one hidden layer and the ntk parameterization."""
    model: Model = from_jsonable(Model, case["model"])
    first, activation, last = model.layers
    assert isinstance(first, Dense)
    assert isinstance(activation, Activation)
    assert isinstance(last, Dense)
    assert isinstance(model.parameterization, NTK)
    q = first.W_std**2 * (arrays(case)["x1"] ** 2).mean(1) + (first.b_std or 0.0) ** 2
    (u,), (weights,) = nodes(np.array([0.0]))
    z = torch.from_numpy(np.sqrt(q)[:, None] * u).requires_grad_()
    value = activation.function(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    second, slopes = ((each.numpy(force=True) ** 2 * weights).sum(1) for each in (value, slope))
    nngp = last.W_std**2 * second + (last.b_std or 0.0) ** 2
    return {"nngp": nngp, "ntk": nngp + last.W_std**2 * slopes * q}


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
