"""Solvers by size: what is planned, and that they agree."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ntkengine import infinite_gram, infinite_kernel
from ntkengine.errors import NumericalError, ResourceError
from ntkengine.predict import conjugate_gradients, gradient_flow, plan_solver
from tests.cases import inputs, model
from tests.compare import assert_close

RELU = model([{"kind": "dense", "b_std": 0.3}, {"kind": "relu"}, {"kind": "dense", "width": 1}])


def test_plans() -> None:
    assert plan_solver(500, 1, whole_path=True).method == "eigendecomposition"
    assert plan_solver(500, 1, whole_path=False).method == "eigendecomposition"  # a pseudo-inverse
    assert plan_solver(500, 1, whole_path=False, ridge=0.1).method == "cholesky"
    large = plan_solver(50_000, 10, whole_path=False, ridge=0.1)
    assert large.method == "conjugate_gradients"
    assert large.bytes < 2 * 1024**3 < 8 * 50_000**2
    assert "tiles" in str(large)
    with pytest.raises(ResourceError, match="eigendecomposition") as caught:
        plan_solver(50_000, 1, whole_path=True)
    assert "ridge" in (caught.value.hint or "")
    assert plan_solver(50, 10, whole_path=True, joint=True).rows == 500


@pytest.mark.parametrize("ridge", [1e-4, 1.0])
def test_conjugate_gradients_on_stored_tiles(ridge: float, tmp_path: Path) -> None:
    x, y = inputs(300, 5), inputs(300, 3, seed=1)
    stored = infinite_gram(RELU, x, directory=tmp_path / "gram", get=("ntk",), budget=2**24 + 2**20)
    found = conjugate_gradients(
        partial(stored.rows, "ntk"), y, ridge=ridge, rank=60, tile_bytes=100_000, rtol=1e-12
    )
    K = infinite_kernel(RELU, x).ntk
    dense = torch.linalg.solve(K + ridge * torch.eye(300, dtype=torch.float64), y)
    assert_close(found.alpha, dense, rtol=1e-8)
    assert found.residual < 1e-11


def test_the_preconditioner_is_worth_it() -> None:
    x, y = inputs(300, 2), inputs(300, 1, seed=1)
    K = infinite_kernel(RELU, x).ntk
    counts = [
        conjugate_gradients(lambda start, stop: K[start:stop].numpy(), y, ridge=1e-3, rank=rank).iterations
        for rank in (1, 100)
    ]
    assert counts[1] < counts[0] / 3


def test_coupled_outputs_by_conjugate_gradients() -> None:
    features = inputs(12, 30)
    K = (features @ features.mT).reshape(6, 2, 6, 2).permute(0, 2, 1, 3)
    y = inputs(6, 2, seed=1)
    found = conjugate_gradients(
        lambda start, stop: K[start:stop].numpy(), y, ridge=0.3, rank=4, tile_bytes=400
    )
    ended = gradient_flow(K, y, times=[math.inf], ridge=0.3).train[0]
    assert_close(torch.einsum("ijab,jb->ia", K, found.alpha), ended, rtol=1e-8)


def test_no_convergence_is_an_error() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 80)) * np.logspace(0, -7, 80)
    K = features @ features.T
    with pytest.raises(NumericalError, match="3 iterations"):
        conjugate_gradients(
            lambda start, stop: K[start:stop], inputs(80, 1), ridge=1e-10, rank=1, max_iterations=3
        )
