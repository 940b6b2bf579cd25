"""Against kernels that were computed by another system (see tests/golden)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ntkengine import Model, compute_kernel, empirical_nngp, empirical_ntk
from ntkengine.kernels import KernelSpec
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
            if x2 is None:
                assert_close(np.diag(got), np.diag(want), rtol=case["rtol_11_diagonal"])
                got, want = without_coincident(got, want, known["x1"])
            assert_close(got, want, rtol=case["rtol"])


def without_coincident(got: np.ndarray, want: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the reference's values where two inputs are the same: it is off there."""
    same = np.abs(x[:, None] - x[None]).max(-1) == 0
    return np.where(same, want, got), want


@pytest.mark.parametrize("implementation", ["jacobian_contraction", "structured_derivatives"])
@pytest.mark.parametrize("case", of_kind("finite"))
def test_finite(case: dict[str, Any], implementation: str) -> None:
    known = arrays(case)
    model: Model = from_jsonable(Model, case["model"])
    network = model.network((known["x1"].shape[1],), weights={name: known[name] for name in case["weights"]})
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
