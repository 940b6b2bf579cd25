"""Predictions by spec: kernels of models and arrays, what is refused, what is reported."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from ntkengine import EngineError, KernelSpec, compute_kernel, infinite_kernel
from ntkengine.predict import Prediction, PredictSpec, compute_prediction, gradient_flow, leave_one_out
from ntkengine.predict.compute import Problem, by_factor, by_iteration
from ntkengine.spec import from_jsonable, to_jsonable
from tests.cases import inputs
from tests.compare import assert_close

MODEL = {
    "layers": [{"kind": "dense", "width": 32, "b_std": 0.5}, {"kind": "erf"}, {"kind": "dense", "width": 2}]
}
X, Y, POINTS = inputs(6, 3), inputs(6, 2, seed=1), inputs(4, 3, seed=2)
DATA = {"x": X.tolist(), "y": Y.tolist(), "x_test": POINTS.tolist(), "y_test": inputs(4, 2, seed=3).tolist()}
BASE: dict[str, Any] = {
    "model": MODEL,
    "data": DATA,
    "training": {"kind": "gradient_flow", "times": [0, 2.5, "inf"]},
}


def spec(**changes: Any) -> PredictSpec:
    result: PredictSpec = from_jsonable(PredictSpec, BASE | changes)
    return result


def predicted(**changes: Any) -> Prediction:
    found = compute_prediction(spec(**changes))
    facts = {name: value for name, value in vars(found).items() if name != "arrays"}
    assert json.loads(json.dumps(facts, allow_nan=False))
    assert all(np.isfinite(array).all() for array in found.arrays.values())
    return found


def test_infinite_width() -> None:
    found = predicted(covariance=True)
    model = spec().model
    assert model is not None
    theta, cross = infinite_kernel(model, X).ntk, infinite_kernel(model, POINTS, X).ntk
    expected = gradient_flow(theta, Y, cross, times=[0.0, 2.5, math.inf])
    assert_close(found.arrays["mean_train"], expected.train)
    assert_close(found.arrays["mean_test"], expected.test)
    assert_close(found.arrays["covariance_test"][0], infinite_kernel(model, POINTS).nngp)
    assert found.arrays["covariance_train"].shape == (3, 6, 6)
    assert_close(found.arrays["leave_one_out"], leave_one_out(theta, Y))
    assert found.times == (0.0, 2.5, "inf")
    assert found.plan["solver"]["method"] == "eigendecomposition"
    assert found.learning_rate_limit == pytest.approx(2 / found.diagnostics["lambda_max"])


def test_one_network_starts_where_it_is() -> None:
    found = predicted(of={"kind": "empirical", "seed": 4}, ridge=0.1)
    model = spec().model
    assert model is not None
    network = model.network((3,), seed=4)
    with torch.no_grad():
        f0, g0 = network(X), network(POINTS)
    request = {
        "model": MODEL,
        "x1": torch.cat([X, POINTS]).tolist(),
        "of": {"kind": "empirical", "seed": 4, "outputs": "full"},
    }
    K = torch.from_numpy(compute_kernel(from_jsonable(KernelSpec, request)).kernels["ntk"])
    expected = gradient_flow(
        K[:6, :6], Y, K[6:, :6], times=[0, 2.5, math.inf], f0_train=f0, f0_test=g0, ridge=0.1
    )
    assert_close(found.arrays["mean_test"], expected.test)
    assert_close(found.arrays["mean_test"][0], g0)


def test_solvers_agree() -> None:
    end = {"kind": "gradient_flow", "times": ["inf"]}
    for of in ({"kind": "infinite"}, {"kind": "empirical"}):
        factored = predicted(training=end, ridge=0.2, of=of)
        decomposed = predicted(ridge=0.2, of=of)
        assert factored.plan["solver"]["method"] == "cholesky"
        for name in ("mean_train", "mean_test"):
            assert_close(factored.arrays[name][0], decomposed.arrays[name][-1], rtol=1e-11)
        assert_close(factored.learning_rate_limit, decomposed.learning_rate_limit, rtol=1e-10)


def test_conjugate_gradients_give_the_same() -> None:
    asked = spec(training={"kind": "gradient_flow", "times": ["inf"]}, ridge=0.2, of={"kind": "empirical"})
    problem = Problem(asked, Y, asked.source.prepare(asked.names), asked.solver())
    direct, iterated = by_factor(problem), by_iteration(problem)
    assert iterated.facts["iterations"] > 0
    for name in ("mean_train", "mean_test"):
        assert_close(iterated.arrays[name], direct.arrays[name], rtol=1e-8)


def test_kernels_as_arrays() -> None:
    reference = predicted(covariance=True)
    model = spec().model
    assert model is not None
    kernels = infinite_kernel(model, torch.cat([X, POINTS]))
    cut = {
        name: {
            "train_train": K[:6, :6].tolist(),
            "test_train": K[6:, :6].tolist(),
            "test_test": K[6:, 6:].tolist(),
        }
        for name, K in kernels.kernels.items()
    }
    data = {"y": DATA["y"], "y_test": DATA["y_test"]}
    found = predicted(model=None, data=data, of={"kind": "given", **cut}, covariance=True)
    for name, array in reference.arrays.items():
        assert_close(found.arrays[name], array)


def test_steps_and_units() -> None:
    training = {
        "kind": "gradient_descent",
        "learning_rate": 0.5,
        "steps": [0, 3],
        "momentum": 0.5,
        "loss": {"kind": "mean"},
    }
    found = predicted(training=training)
    assert found.steps == (0, 3)
    assert found.time_per_step == 1.0
    assert found.times == (0.0, 3.0)
    assert found.rate_factor == pytest.approx(2 / 12)
    limit = found.learning_rate_limit
    assert limit is not None
    assert limit == pytest.approx(3 * 6 / found.diagnostics["lambda_max"])
    assert any(
        "unstable" in w for w in predicted(training=training | {"learning_rate": 1.1 * limit}).warnings
    )
    assert not any(
        "unstable" in w for w in predicted(training=training | {"learning_rate": 0.9 * limit}).warnings
    )


def test_other_losses() -> None:
    training = {"kind": "gradient_flow", "times": [0.5, 20], "loss": {"kind": "cross_entropy"}}
    data = DATA | {"y": [[1.0, 0.0], [0.0, 1.0]] * 3, "y_test": None}
    found = predicted(training=training, data=data)
    assert found.plan["solver"]["method"] == "lsoda"
    assert found.arrays["loss_train"][1] < found.arrays["loss_train"][0]


def test_the_spec_survives_json() -> None:
    again = from_jsonable(PredictSpec, json.loads(json.dumps(to_jsonable(spec()))))
    assert to_jsonable(again) == to_jsonable(spec())
    assert again.training.moments == (0.0, 2.5, math.inf)


FLOW = {"kind": "gradient_flow"}
ENTROPY = {"kind": "cross_entropy"}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"model": None}, "/model"),
        ({"data": {"y": DATA["y"]}}, "/data/x"),
        ({"data": DATA | {"y": DATA["y"][:5]}}, "/data/y"),
        ({"data": DATA | {"y": [[1.0]] * 6}}, "/data/y"),
        ({"data": DATA | {"x_test": [[1.0]]}}, "/data/x_test"),
        ({"data": DATA | {"y_test": [[1.0, 2.0]]}}, "/data/y_test"),
        ({"of": {"kind": "empirical"}, "covariance": True}, "/covariance"),
        ({"of": {"kind": "empirical"}, "inference": "nngp"}, "/inference"),
        ({"of": {"kind": "infinite", "outputs": "trace"}}, "/of/outputs"),
        ({"of": {"kind": "given", "ntk": {"train_train": [[1.0]]}}}, "/model"),
        ({"training": FLOW | {"times": [1.0], "loss": ENTROPY}}, "/data/y"),
        ({"training": FLOW | {"times": ["inf"], "loss": ENTROPY}}, "/training"),
        ({"training": FLOW | {"times": [1.0], "loss": ENTROPY}, "ridge": 1.0}, "/ridge"),
    ],
)
def test_refusals(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(EngineError) as caught:
        spec(**changes).check()
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({}, "/of/ntk"),
        ({"ntk": {"train_train": [[1.0, 0.0], [0.0, 1.0]]}}, "/of/ntk/train_train"),
        ({"ntk": {"train_train": np.eye(6)[::-1] + np.eye(6, k=1)}}, "/of/ntk/train_train"),
        ({"ntk": {"train_train": np.eye(6), "test_train": [[1.0]]}}, "/of/ntk/test_train"),
        ({"ntk": {"train_train": np.eye(6)}, "f0_train": [[1.0]]}, "/of/f0_train"),
    ],
)
def test_refusals_of_arrays(given: dict[str, Any], pointer: str) -> None:
    with pytest.raises(EngineError) as caught:
        spec(model=None, data={"y": DATA["y"]}, of={"kind": "given", **given}).check()
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("time", [-1.0, "soon", True, None, math.nan, -math.inf])
def test_times_are_times(time: Any) -> None:
    with pytest.raises(ValueError, match="time is a number"):
        spec(training={"kind": "gradient_flow", "times": [time]})


def test_numbers_that_overflow_are_an_error() -> None:
    training = {"kind": "gradient_descent", "learning_rate": 1e6, "steps": [1000]}
    with pytest.raises(EngineError, match="unstable") as caught:
        compute_prediction(spec(training=training))
    assert caught.value.pointer == "/training/learning_rate"


def test_the_width_is_in_the_unit_of_time() -> None:
    standard = MODEL | {"parameterization": {"kind": "standard"}}
    found = predicted(model=standard)
    assert found.scaling is not None
    assert found.scaling["width_power"] == 1
    assert "at width N all goes N^1 times as fast" in found.time_unit
    assert "width N" not in predicted(model=standard, inference="nngp").time_unit


def test_an_average_over_networks() -> None:
    of = {"kind": "monte_carlo", "rtol": 0.1, "max_draws": 50}
    found = predicted(of=of, covariance=True)
    assert found.method["kind"] == "monte_carlo"
    least = np.linalg.eigvalsh(found.arrays["covariance_test"]).min()
    assert least > -1e-12  # all blocks are of the same draws
