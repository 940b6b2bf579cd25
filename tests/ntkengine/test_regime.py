"""Regime reports: verdicts that theory knows, numbers against independent ones, and going on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ntkengine import Data, Dense, GradientDescent, GradientFlow, Model, Quadratic, Stop, Tanh, train
from ntkengine.dynamics import Adam, CrossEntropy
from ntkengine.dynamics.records import LinearizedRecord
from ntkengine.errors import SpecError, UnsupportedError
from ntkengine.parameterizations import MeanField, Standard
from ntkengine.predict import Descent, Flow, Modes
from ntkengine.predict.modes import Solution
from ntkengine.regime import Case, RegimeSpec, regime_report
from ntkengine.regime.closed_form import Krylov, Theory, starts
from ntkengine.regime.measure import Trained, compared
from ntkengine.regime.thresholds import verdict
from ntkengine.regime.widths import at_width, own_width
from tests.compare import assert_close

DATA = Data(x=[[1.0], [-1.0]], y=[[1.0], [1.0]], x_test=[[0.5]], y_test=[[1.0]])
DESCENT = GradientDescent(learning_rate=0.05, steps=100)


def network(width: int, activation: Any = None, **more: Any) -> Model:
    layers = (Dense(width=width, b_std=1.0), activation or Tanh(), Dense(width=1))
    return Model(layers=layers, **more)


def asked(model: Model, training: Any = DESCENT, **more: Any) -> RegimeSpec:
    return RegimeSpec(model=model, data=DATA, training=training, **{"seeds": 3, **more})


def report_of(spec: RegimeSpec) -> dict[str, Any]:
    *_, last = regime_report(spec)
    assert last.report is not None
    json.dumps(last.report, allow_nan=False)
    return last.report


@pytest.mark.parametrize(
    ("model", "training", "right"),
    [
        pytest.param(network(2048), DESCENT, {"lazy"}, id="wide"),
        pytest.param(network(4, Quadratic()), replace(DESCENT, steps=500, learning_rate=0.01),
                     {"rich", "between"}, id="narrow"),
        pytest.param(network(256, Quadratic(), parameterization=MeanField(lr_scale="width")),
                     replace(DESCENT, steps=400), {"rich", "between"}, id="mean field"),
        pytest.param(network(1000, Quadratic(), parameterization=MeanField()),
                     GradientFlow(t_end=10.0, rtol=1e-6), {"undetermined"}, id="undertrained"),
        pytest.param(network(512, Quadratic(), parameterization=Standard()),
                     replace(DESCENT, learning_rate=1e-4), {"lazy"}, id="standard"),
        pytest.param(network(8, output_scale=100.0, initial_function="centred"),
                     replace(DESCENT, learning_rate=5e-6), {"lazy"}, id="large alpha"),
    ],
)  # fmt: skip
def test_verdicts_known_from_theory(model: Model, training: Any, right: set[str]) -> None:
    report = report_of(asked(model, training))
    assert report["verdict"] in right, report["reasons"]


def test_the_linearization_of_what_is_linear_is_exact() -> None:
    """With the second layer alone trained the outputs are linear in what moves."""
    slow = {"layers.0": 1e-30}
    row = report_of(asked(network(8), replace(DESCENT, learning_rates=slow)))["widths"][0]
    assert row["linearization_error"]["test"]["high"] < 1e-9


def test_diverged_seeds_are_no_verdict() -> None:
    report = report_of(asked(network(64), replace(DESCENT, learning_rate=50.0)))
    assert report["verdict"] == "undetermined"
    assert "diverged" in report["reasons"][1]
    assert report["learning_rate_limit"] < 50.0


@pytest.mark.parametrize(
    "training",
    [
        pytest.param(replace(DESCENT, momentum=0.5), id="momentum"),
        pytest.param(GradientFlow(t_end=3.0, stop=Stop(loss_below=0.2)), id="flow that ends early"),
    ],
)
def test_the_closed_form_is_the_twin_that_dynamics_trains(training: Any) -> None:
    spec = asked(network(16), training)
    run = replace(spec.run(spec.own), record=(*spec.run(spec.own).record, LinearizedRecord()))
    trained = Trained()
    for segment in train(run):
        trained.add(segment)
    for member, start in enumerate(starts(run)):
        theory = Theory(run, start)
        points = [point for point in trained.points if "linearized" in point.values]
        end = trained.ended_at[member]
        at = np.minimum([point.time if point.step is None else point.step for point in points], end)
        for part, name in (("train", "outputs"), ("test", "outputs_test")):
            twin = trained.of_twin(name)[:, member]
            assert_close(getattr(theory.linearized(at), part), twin, rtol=1e-6)
        assert compared(spec, run, trained, theory, member)["linearization_train"] > 0


def test_a_krylov_space_evolves_errors_as_all_modes_do() -> None:
    generator = torch.Generator().manual_seed(3)
    factor = torch.randn(90, 60, generator=generator, dtype=torch.float64)
    matrix, errors = factor @ factor.mT, torch.randn(90, 1, generator=generator, dtype=torch.float64)
    space = Krylov(matrix, errors)
    while space.grow(20):
        pass
    for evolution in (Flow(times=(0.0, 0.01, 1.0)), Descent(learning_rate=1e-3, steps=(0, 3, 200))):
        known, found = (Solution(modes, evolution, 1.0) for modes in (Modes.of(matrix), space.modes()))
        assert_close(found.train(errors).numpy(), known.train(errors).numpy(), rtol=1e-9)
        assert_close(found.change(matrix, errors).numpy(), known.change(matrix, errors).numpy(), rtol=1e-9)


def test_a_report_goes_on_with_the_widths_that_are_missing() -> None:
    spec = asked(network(8), replace(DESCENT, steps=20), widths=(4, 8, 16))
    steps = list(regime_report(spec, segment_seconds=0.0))
    half = next(step for step in steps if len({name.split("/")[0] for name in step.checkpoint}) == 2)
    rest = list(regime_report(spec, half.checkpoint, segment_seconds=0.0))
    assert len(rest) < len(steps)
    assert rest[-1].report == steps[-1].report
    shares = [step.progress for step in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_exponents_of_the_quadratic_network() -> None:
    """Relative kernel change falls as 1/N under ntk, the weights' as N^-1/2 (science.md, wide: few seeds)."""
    training = GradientFlow(t_end=60.0, rtol=1e-6, stop=Stop(loss_below=1e-4))
    fitted = report_of(asked(network(32, Quadratic()), training, widths=(32, 512), seeds=12))["exponents"]
    assert fitted["kernel_change"]["low"] < -0.96 < fitted["kernel_change"]["high"]
    assert fitted["weight_change"]["low"] < -0.48 < fitted["weight_change"]["high"]
    assert fitted["kernel_change"]["high"] < 0 < -fitted["weight_change"]["high"]
    assert fitted["learning_rate_limit"]["slope"] == pytest.approx(0.0, abs=0.2)


@pytest.mark.parametrize("advise", ["width", "output_scale"])
def test_advice_is_followed_and_holds(advise: Any) -> None:
    training = replace(DESCENT, steps=200)
    advice = report_of(asked(network(16), training, advise=advise, tolerance=0.05))["advice"]
    assert advice["holds"], advice
    model = network(16)
    if advise == "width":
        model = at_width(model, (1,), advice["width"])
    else:
        model = replace(
            model, output_scale=advice["output_scale"], initial_function=advice["initial_function"]
        )
        training = replace(training, learning_rate=training.learning_rate * advice["time_factor"])
    row = report_of(asked(model, training))["widths"][0]
    assert row["kernel_change"]["high"] < 0.05
    assert row["linearization_error"]["train"]["high"] < 0.05


def test_no_width_makes_a_mean_field_network_lazy() -> None:
    model = network(32, Quadratic(), parameterization=MeanField(lr_scale="width"))
    training = replace(DESCENT, steps=400)
    report = report_of(asked(model, training, advise="width"))
    assert not report["advice"]["holds"]
    assert "does not fall with the width" in report["reasons"][-1]


@pytest.mark.parametrize("training", [
    Adam(learning_rate=0.02, steps=60),
    replace(DESCENT, batch_size=1, steps=80),
    replace(DESCENT, loss=CrossEntropy(), steps=60),
])  # fmt: skip
def test_other_training_has_a_twin(training: Any) -> None:
    data = Data(x=[[1.0], [-1.0]], y=[[1.0, 0.0], [0.0, 1.0]], x_test=[[0.5]], y_test=[[1.0, 0.0]])
    model = Model(layers=(Dense(width=64, b_std=1.0), Tanh(), Dense(width=2)))
    spec = RegimeSpec(model=model, data=data, training=training, seeds=2)
    assert not spec.linear_by_kernel
    report = report_of(spec)
    row = report["widths"][0]
    assert 0 < row["linearization_error"]["test"]["median"] < 10
    assert (row["test_error"]["kernel"] is None) == (training.kind == "adam")
    assert not all(each["holds"] for each in report["assumptions"])


def row(change: tuple[float, float], apart: float, share: float = 1.0, diverged: int = 0) -> dict[str, Any]:
    low, high = change
    return {
        "kernel_change": {"median": low, "low": low, "high": high},
        "linearization_error": {"train": {"high": apart}, "test": None},
        "trained_share": {"median": share},
        "diverged": diverged,
    }


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (row((0.01, 0.099), 0.099), "lazy"),
        (row((0.01, 0.101), 0.01), "between"),
        (row((0.01, 0.02), 0.11), "between"),
        (row((0.49, 3.0), 1.0), "between"),
        (row((0.5, 3.0), 1.0), "rich"),
        (row((0.01, 0.02), 0.01, share=0.89), "undetermined"),
        (row((0.01, 0.02), 0.01, diverged=1), "undetermined"),
    ],
)
def test_thresholds(of: dict[str, Any], said: str) -> None:
    assert verdict(of) == said


def test_widths_are_scaled_in_proportion() -> None:
    layers = (Dense(width=8), Tanh(), Dense(width=4), Tanh(), Dense(width=2))
    model = Model(layers=layers)
    assert own_width(model, (3,)) == 8
    wider = at_width(model, (3,), 20).layers
    assert [layer.width for layer in wider if isinstance(layer, Dense)] == [20, 10, 2]
    assert asked(network(8), widths=(4,)).cases() == [Case(4), Case(8)]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"widths": (8, 8)}, "/widths"),
        ({"model": Model(layers=(Dense(width=1),))}, "/model/layers"),
        ({"model": network(8), "training": Adam(steps=3), "advise": "output_scale"}, "/advise"),
    ],
)
def test_refused_with_the_field(change: dict[str, Any], pointer: str) -> None:
    spec = replace(asked(network(8)), **change)
    with pytest.raises((SpecError, UnsupportedError)) as error:
        spec.check()
    assert error.value.pointer == pointer
