"""The linearized twin, held to the closed form, to polynomials of its own, and to itself when interrupted."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from ntkengine import empirical_ntk, train
from ntkengine.dynamics import Checkpoint, Point, Segment
from tests.compare import assert_close
from tests.ntkengine.test_training_members import ADAM, DESCENT, X, Y, model, same, series, spec, whole

SCHEDULE = {"kind": "linear", "points": 11}
RECORD: list[dict[str, Any]] = [
    {"what": "linearized", "schedule": SCHEDULE},
    {"what": "loss", "schedule": SCHEDULE},
    {"what": "outputs", "schedule": SCHEDULE},
    {"what": "weights", "schedule": SCHEDULE},
]
DATA = {"x": X, "y": Y, "x_test": [[0.3, 0.3], [2.0, -1.0]]}
FLOW = {"kind": "gradient_flow", "t_end": 3.0, "rtol": 1e-11, "atol": 1e-12}


def of_order(order: int) -> list[dict[str, Any]]:
    return [RECORD[0] | {"order": order}, *RECORD[1:]]


def twin(points: list[Point], *names: str) -> np.ndarray:
    return series(points, "linearized", *names)


@pytest.mark.parametrize("kind", ["half_sum", "mean"])
@pytest.mark.parametrize("training", [DESCENT | {"steps": 300}, FLOW])
def test_the_twin_is_the_closed_form(training: dict[str, Any], kind: str) -> None:
    """`f_k = y + U (1 - eta s lambda)^k U^T (f_0 - y)`, or `e^(-s lambda t)` under the flow."""
    points, _ = whole(spec(training | {"loss": {"kind": kind}}, seed=2, record=RECORD, data=DATA))
    factor = {"half_sum": 1.0, "mean": 2 / 5}[kind]
    network = spec(DESCENT).model.network((2,), seed=2)
    x, x_test = torch.tensor(X, dtype=torch.float64), torch.tensor(DATA["x_test"], dtype=torch.float64)
    values, vectors = np.linalg.eigh(empirical_ntk(network, x).numpy())
    across = empirical_ntk(network, x_test, x).numpy()
    f_0, f_test = network(x).numpy(force=True), network(x_test).numpy(force=True)
    residual = vectors.T @ (f_0 - np.array(Y))
    for point in points:
        left = (
            (1 - 0.05 * factor * values) ** point.step
            if point.step is not None
            else (np.exp(-factor * values * point.time))
        )
        recorded: Any = point.values["linearized"]
        assert_close(recorded["outputs"], Y + vectors @ (left[:, None] * residual), rtol=1e-8)
        moved = across @ vectors @ (((1 - left) / values)[:, None] * residual)
        assert_close(recorded["outputs_test"], f_test - moved, rtol=1e-8)


@pytest.mark.parametrize("training", [DESCENT | {"momentum": 0.5, "batch_size": 2}, ADAM, FLOW])
def test_the_twin_of_a_linear_model_is_the_model(training: dict[str, Any]) -> None:
    linear = {"layers": [{"kind": "dense", "width": 1, "b_std": 1.0}]}
    points, _ = whole(spec(training, seeds=[0, 1], model=linear, record=RECORD))
    assert_close(twin(points, "outputs"), series(points, "outputs"))
    assert_close(twin(points, "weights", "layers.0.W"), series(points, "weights", "layers.0.W"))
    assert (twin(points, "relative_error") < 1e-12).all()


@pytest.mark.parametrize("order", [3, 4])
def test_the_expansion_of_a_cubic_model_is_exact_from_order_three(order: int) -> None:
    """`v (w x + b)^2` has no derivative in the weights beyond the third."""
    cubic = model()
    cubic["layers"][1] = {"kind": "quadratic"}
    gentle = DESCENT | {"learning_rate": 0.01}
    points, _ = whole(spec(gentle, seeds=[0, 1], model=cubic, record=of_order(order)))
    assert_close(twin(points, "outputs"), series(points, "outputs"), rtol=1e-10)
    low, _ = whole(spec(gentle, seeds=[0, 1], model=cubic, record=of_order(2)))
    assert (twin(low, "relative_error")[-1] > 1e-4).all()


def test_higher_orders_follow_the_network_further() -> None:
    errors = [
        twin(whole(spec(DESCENT, seed=0, record=of_order(order)))[0], "relative_error")[-1]
        for order in (1, 2, 3)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def test_what_is_recorded_is_what_it_says() -> None:
    points, _ = whole(spec(DESCENT, seed=0, record=RECORD))
    first, last = cast("Any", points[0].values), cast("Any", points[-1].values)
    real, linear, start = (
        np.concatenate([np.ravel(part) for part in weights.values()])
        for weights in (last["weights"], last["linearized"]["weights"], first["weights"])
    )
    recorded = last["linearized"]
    assert recorded["distance"] == pytest.approx(
        np.linalg.norm(real - linear) / np.linalg.norm(real - start), rel=1e-12
    )
    f, f_0 = np.asarray(last["outputs"]), np.asarray(first["outputs"])
    assert recorded["relative_error"] == pytest.approx(
        np.linalg.norm(f - recorded["outputs"]) / np.linalg.norm(f - f_0), rel=1e-12
    )
    assert recorded["loss"] == pytest.approx(0.5 * ((recorded["outputs"] - np.array(Y)) ** 2).sum())
    assert twin(points[:1], "distance")[0] == twin(points[:1], "relative_error")[0] == 0.0


def test_weights_of_large_twins_are_left_out() -> None:
    points, _ = whole(spec(DESCENT | {"steps": 1}, seed=0, model=model(2000), record=RECORD[:3]))
    assert "weights" not in cast("dict[str, Any]", points[0].values["linearized"])


@pytest.mark.parametrize("start", ["centred", "doubled"])
def test_twins_of_several_members_are_their_own(start: str) -> None:
    changes = {"record": RECORD, "model": model(initial_function=start)}
    together, _ = whole(spec(DESCENT, seeds=[3, 0, 7], **changes))
    for member, seed in enumerate([3, 0, 7]):
        alone, _ = whole(spec(DESCENT, seed=seed, **changes))
        assert_close(twin(together, "outputs")[:, member], twin(alone, "outputs"))


@pytest.mark.parametrize("training", [DESCENT | {"steps": 400}, FLOW | {"t_end": 30.0, "rtol": 1e-7}])
def test_twins_stop_where_their_networks_do(training: dict[str, Any]) -> None:
    stop = {"stop": {"loss_below": 0.3}}
    points, _ = whole(spec(training | stop, seeds=[0, 1, 2], record=RECORD))
    for member in range(3):
        alone, _ = whole(spec(training | stop, seed=member, record=RECORD))
        after = [point for point in points if point.time >= alone[-1].time * (1 - 1e-6)]
        outputs = twin(after, "outputs")[:, member]
        assert (outputs == outputs[-1]).all()
        assert_close(outputs[-1], twin(alone[-1:], "outputs")[0], rtol=1e-5)


@pytest.mark.parametrize(
    "training",
    [
        DESCENT | {"momentum": 0.8, "batch_size": 2},
        ADAM | {"stop": {"loss_below": 1.5}, "steps": 200},
        FLOW | {"rtol": 1e-6},
        FLOW | {"t_end": 30.0, "rtol": 1e-6, "stop": {"loss_below": 0.3}},
        FLOW | {"t_end": 30.0, "rtol": 1e-3, "atol": 1e-3, "stop": {"loss_below": 0.01}},
    ],
)
def test_interrupted_twins_are_the_same_bits(training: dict[str, Any]) -> None:
    run = spec(training, seeds=[0, 1, 2], record=of_order(1), model=model(initial_function="centred"))
    made: list[Segment] = []
    while not made or made[-1].outcome is None:
        checkpoint: Checkpoint | None = made[-1].checkpoint if made else None
        made.append(next(train(run, checkpoint, segment_seconds=-1.0)))
    points, last = whole(run)
    again = [point for segment in made for point in segment.points]
    assert made[-1].outcome is last.outcome
    assert [(p.step, p.time) for p in again] == [(p.step, p.time) for p in points]
    assert all(same(a.values, b.values) for a, b in zip(again, points, strict=True))


def test_a_twin_costs_its_gradients() -> None:
    with_twin, without = spec(DESCENT, record=RECORD).plan(), spec(DESCENT, record=RECORD[1:]).plan()
    assert with_twin["flops"] > 2 * without["flops"]
