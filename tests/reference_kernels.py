"""Kernels that were computed by another system (see tests/golden), and how ours are held to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ntkengine import NTK, Dense, Model
from ntkengine.activations import Activation
from ntkengine.reference.duals import nodes
from ntkengine.spec import from_jsonable
from tests.compare import assert_close

GOLDEN = Path(__file__).with_name("golden")
CASES = json.loads((GOLDEN / "manifest.json").read_text())["cases"]


def of_kind(kind: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in CASES if case["kind"] == kind]


def arrays(case: dict[str, Any]) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / case["arrays"], allow_pickle=False) as file:
        return dict(file)


def check_infinite(case: dict[str, Any], kernels_of: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Hold kernels to the case's arrays: those that are computed for a request as JSON has it."""
    known = arrays(case)
    of = {"kind": "infinite", "widths": case.get("widths", "limit")}
    for suffix, x2 in (("11", None), ("12", known["x2"])):
        request = {"model": case["model"], "x1": known["x1"].tolist(), "of": of}
        kernels = kernels_of(request if x2 is None else request | {"x2": x2.tolist()})
        for name in ("nngp", "ntk"):
            got, want = np.array(kernels[name]), known[f"{name}_{suffix}"]
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
