"""Kernels by spec: Monte Carlo, networks that are no function, outputs with axes, every layer as JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ntkengine import KernelSpec, Model, RunSpec, UnsupportedError, compute_kernel
from ntkengine.spec import from_jsonable, to_jsonable
from tests.cases import LAYER_KINDS, inputs, model
from tests.compare import assert_close

DENSE = {"kind": "dense", "width": 64, "W_std": 1.2, "b_std": 0.1}
READOUT = {"kind": "dense", "width": 2}


def spec(layers: list[Any], of: dict[str, Any], shape: tuple[int, ...] = (4,)) -> KernelSpec:
    x = inputs(3 * math.prod(shape), 1).reshape(3, *shape).numpy()
    result: KernelSpec = from_jsonable(KernelSpec, {"model": {"layers": layers}, "x1": x, "of": of})
    return result


def test_monte_carlo_is_labelled_and_agrees_with_the_rule() -> None:
    layers = [DENSE, {"kind": "relu"}, READOUT]
    drawn = compute_kernel(spec(layers, {"kind": "monte_carlo", "rtol": 0.03}))
    exact = compute_kernel(spec(layers, {"kind": "infinite"}))
    assert drawn.method["kind"] == "monte_carlo"
    assert drawn.method["stderr"] <= 0.03
    assert any("width" in warning for warning in drawn.warnings)
    for name in ("nngp", "ntk"):
        size = np.abs(exact.kernels[name]).max()
        assert np.abs(drawn.kernels[name] - exact.kernels[name]).max() < 4.5 * drawn.method["stderr"] * size


def test_monte_carlo_where_there_is_no_rule() -> None:
    conv = {"kind": "conv", "width": 16, "filter_shape": [2]}
    layers = [conv, {"kind": "max_pool", "window_shape": [2]}, {"kind": "flatten"}, READOUT]
    with pytest.raises(UnsupportedError, match=r"layers\.1.*max_pool"):
        compute_kernel(spec(layers, {"kind": "infinite"}, (4, 3)))
    result = compute_kernel(spec(layers, {"kind": "monte_carlo", "rtol": 0.1, "get": ["ntk"]}, (4, 3)))
    assert result.kernels["ntk"].shape == (3, 3)
    stopped = compute_kernel(spec(layers, {"kind": "monte_carlo", "rtol": 1e-4, "max_draws": 3}, (4, 3)))
    assert stopped.method["draws"] == 3
    assert any("3" in warning for warning in stopped.warnings)


def test_networks_that_draw_in_every_pass_are_no_functions() -> None:
    layers = [DENSE, {"kind": "relu"}, {"kind": "dropout", "keep_rate": 0.8}, READOUT]
    with pytest.raises(UnsupportedError, match=r"layers\.2: dropout draws anew"):
        spec(layers, {"kind": "empirical"}).check()
    run = {
        "model": {"layers": layers},
        "data": {"x": [[1.0], [2.0]], "y": [[1.0, 0.0], [0.0, 1.0]]},
        "training": {"kind": "gradient_descent", "learning_rate": 0.1, "steps": 10},
    }
    with pytest.raises(UnsupportedError, match=r"layers\.2: dropout draws anew"):
        from_jsonable(RunSpec, run).check()
    compute_kernel(spec(layers, {"kind": "infinite"}))
    tested = [*layers[:2], {"kind": "dropout", "keep_rate": 0.8, "mode": "test"}, READOUT]
    compute_kernel(spec(tested, {"kind": "empirical"}))


@pytest.mark.parametrize("axes", [1, 2])
def test_outputs_with_axes_are_diagnosed_as_one_gram_matrix(axes: int) -> None:
    conv = {"kind": "conv", "width": 4, "filter_shape": [2] * axes}
    shape = (4, 3)[:axes]
    result = compute_kernel(spec([conv, {"kind": "relu"}, conv], {"kind": "infinite"}, (*shape, 2)))
    sizes = [size - 2 for size in shape]
    assert result.kernels["ntk"].shape == (3, 3, *(size for size in sizes for _ in range(2)))
    assert result.diagnostics["symmetric"]
    assert result.diagnostics["lambda_min"] > -1e-12


@pytest.mark.parametrize("name", LAYER_KINDS)
def test_every_layer_goes_through_json(name: str) -> None:
    shape, layers = LAYER_KINDS[name]
    built = model(layers(8))
    again: Model = from_jsonable(Model, to_jsonable(built))
    assert again == built
    kernels = [
        compute_kernel(KernelSpec(model=each, x1=inputs(2 * math.prod(shape), 1).reshape(2, *shape).numpy()))
        for each in (built, again)
    ]
    assert_close(kernels[0].kernels["ntk"], kernels[1].kernels["ntk"])
