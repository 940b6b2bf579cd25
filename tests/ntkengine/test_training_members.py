"""Several members in one run, held to runs of one each; optimisers, held to torch.optim step by step."""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from ntkengine import RunSpec, SpecError, train
from ntkengine.dynamics import Checkpoint, Outcome, Point, Segment
from ntkengine.spec import from_jsonable
from tests.cases import HALF, UNIFORM
from tests.compare import assert_close

X = [[1.0, 0.3], [-1.0, 0.2], [0.4, -0.8], [0.1, 0.9], [-0.6, -0.5]]
Y = [[1.0], [-1.0], [1.0], [-1.0], [1.0]]
RECORD = [
    {"what": what, "schedule": {"kind": "every", "steps": 1}} for what in ("loss", "outputs", "weights")
]
DESCENT = {"kind": "gradient_descent", "learning_rate": 0.05, "steps": 40}
ADAM = {"kind": "adam", "learning_rate": 0.01, "steps": 40}


def model(width: int = 6, **fields: Any) -> dict[str, Any]:
    hidden = {"kind": "dense", "width": width, "W_law": UNIFORM, "b_std": 1.0, "b_law": HALF}
    readout = {"kind": "dense", "width": 1, "W_law": UNIFORM}
    return {"layers": [hidden, {"kind": "tanh"}, readout]} | fields


def spec(training: dict[str, Any], **changes: Any) -> RunSpec:
    base = {"model": model(), "data": {"x": X, "y": Y}, "training": training, "record": RECORD}
    result: RunSpec = from_jsonable(RunSpec, base | changes)
    return result


def whole(run: RunSpec) -> tuple[list[Point], Segment]:
    made = list(train(run))
    return [point for segment in made for point in segment.points], made[-1]


def series(points: list[Point], *names: str) -> np.ndarray:
    values: list[Any] = [point.values for point in points]
    for name in names:
        values = [value[name] for value in values]
    return np.array(values)


OPTIMISERS = [
    (
        DESCENT | {"momentum": 0.9, "weight_decay": 0.1},
        torch.optim.SGD,
        {"momentum": 0.9, "weight_decay": 0.1},
    ),
    (DESCENT | {"weight_decay": 0.1}, torch.optim.SGD, {"weight_decay": 0.1}),
    (ADAM, torch.optim.Adam, {}),
    (
        ADAM | {"beta1": 0.7, "beta2": 0.95, "eps": 1e-4, "weight_decay": 0.2},
        torch.optim.Adam,
        {"betas": (0.7, 0.95), "eps": 1e-4, "weight_decay": 0.2},
    ),
]


@pytest.mark.parametrize(("training", "optimiser", "options"), OPTIMISERS)
def test_optimisers_are_those_of_torch(training: dict[str, Any], optimiser: Any, options: Any) -> None:
    rates = {"layers.0": 0.5, "layers.0.b": 3.0}
    run = spec(training | {"learning_rates": rates}, seed=4)
    points, _ = whole(run)
    network = run.model.network((2,), seed=4)
    factors = {"layers.0.W": 0.5, "layers.0.b": 3.0, "layers.2.W": 1.0}
    groups = [
        {"params": [p], "lr": training["learning_rate"] * factors[name]}
        for name, p in network.named_parameters()
    ]
    stepper = optimiser(groups, **options)
    x, y = torch.tensor(X, dtype=torch.float64), torch.tensor(Y, dtype=torch.float64)
    for point in points[1:]:
        stepper.zero_grad()
        (0.5 * (network(x) - y).square().sum()).backward()
        stepper.step()
        recorded: Any = point.values["weights"]
        for name, p in network.named_parameters():
            assert_close(recorded[name], p, rtol=1e-12)


def test_minibatches_go_through_every_point_once_an_epoch() -> None:
    """Epochs of 2, 2 and 1 points; each step is that of torch on the rows that explain it."""
    run = spec(DESCENT | {"batch_size": 2, "steps": 6}, seed=1)
    points, _ = whole(run)
    x, y = torch.tensor(X, dtype=torch.float64), torch.tensor(Y, dtype=torch.float64)
    used: list[tuple[int, ...]] = []
    for before, after in itertools.pairwise(points):
        gradients, weights = [], cast("dict[str, Any]", before.values["weights"])
        for row in range(5):
            network = run.model.network((2,), weights=weights)
            (0.5 * (network(x[row : row + 1]) - y[row]).square().sum()).backward()
            gradients.append(
                torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
            )
        moved = np.concatenate(
            [
                ((np.asarray(after.values["weights"][name]) - value) / -0.05).ravel()  # type: ignore[index]
                for name, value in weights.items()
            ]
        )
        shares, *_ = np.linalg.lstsq(torch.stack(gradients).T.numpy(), moved, rcond=None)
        assert_close(shares, np.rint(shares), rtol=1e-9)  # whole points, not rescaled
        used.append(tuple(np.flatnonzero(np.rint(shares))))
    assert [len(rows) for rows in used] == [2, 2, 1, 2, 2, 1]
    for epoch in (used[:3], used[3:]):
        assert sorted(row for rows in epoch for row in rows) == [0, 1, 2, 3, 4]
    assert used[:3] != used[3:]


@pytest.mark.parametrize(
    "training",
    [
        DESCENT | {"momentum": 0.5, "batch_size": 2},
        ADAM | {"batch_size": 3},
        {"kind": "gradient_flow", "t_end": 3.0},
    ],
)
@pytest.mark.parametrize("start", ["raw", "centred", "doubled"])
def test_members_are_runs_of_their_own(training: dict[str, Any], start: str) -> None:
    seeds = [3, 0, 7]
    record = [
        {"what": what, "schedule": {"kind": "linear", "points": 9}}
        for what in ("loss", "outputs", "kernel", "slopes", "weights")
    ]
    if training["kind"] == "adam":
        record.pop(3)
    changes = {"record": record, "model": model(initial_function=start)}
    together, _ = whole(spec(training, seeds=seeds, **changes))
    tolerance = 1e-6 if training["kind"] == "gradient_flow" else 1e-12
    for member, seed in enumerate(seeds):
        alone, _ = whole(spec(training, seed=seed, **changes))
        for names in [("loss",), ("outputs",), ("kernel",), ("weights", "layers.0.W")]:
            assert_close(series(together, *names)[:, member], series(alone, *names), rtol=tolerance)
        assert series(together, "loss").shape == (9, 3)


def test_a_flow_controls_the_error_of_each_member() -> None:
    """One member among 40 that hardly move: its error is that of its own run, not sqrt(40) times it."""
    rng = np.random.default_rng(0)
    fast = {
        "layers.0.W": rng.normal(size=(2, 6)),
        "layers.0.b": np.zeros(6),
        "layers.2.W": np.full((6, 1), 4.0),
    }
    still = {"layers.0.W": np.zeros((2, 6)), "layers.0.b": np.zeros(6), "layers.2.W": np.full((6, 1), 1e-3)}
    at = {"record": [{"what": "outputs", "schedule": {"kind": "linear", "points": 40}}]}
    flow = {"kind": "gradient_flow", "t_end": 4.0, "rtol": 1e-6, "atol": 1e-8}
    exact, _ = whole(spec(flow | {"rtol": 1e-12, "atol": 1e-13}, weights=fast, **at))
    alone, _ = whole(spec(flow, weights=fast, **at))
    together, _ = whole(spec(flow, weights=[fast, *[still] * 40], **at))
    want = series(exact, "outputs")
    error = np.abs(series(alone, "outputs") - want).max()
    assert np.abs(series(together, "outputs")[:, 0] - want).max() <= 1.5 * error
    assert error > 1e-9  # there is an error to control


@pytest.mark.parametrize("training", [DESCENT | {"steps": 400}, {"kind": "gradient_flow", "t_end": 30.0}])
def test_members_end_one_by_one_and_keep_their_weights(training: dict[str, Any]) -> None:
    stop = {"stop": {"loss_below": 0.3}}
    schedule = {"kind": "linear", "points": 41}
    record = [{"what": what, "schedule": schedule} for what in ("loss", "weights")]
    seeds = list(range(4))
    points, last = whole(spec(training | stop, seeds=seeds, record=record))
    assert last.outcome is Outcome.CONVERGED
    losses = series(points, "loss")
    assert (losses[-1] < 0.3).all()
    ends = []
    for member, seed in enumerate(seeds):
        alone, _ = whole(spec(training | stop, seed=seed, record=record))
        ends.append(alone[-1].time)
        assert_close(losses[-1, member], alone[-1].values["loss"], rtol=1e-6)
        after = [p.time >= alone[-1].time * (1 - 1e-6) for p in points]
        kept = series(points, "weights", "layers.0.W")[after][:, member]
        assert (kept == kept[-1]).all()
        assert_close(kept[-1], alone[-1].values["weights"]["layers.0.W"], rtol=1e-5)  # type: ignore[index]
    assert points[-1].time == pytest.approx(max(ends), rel=1e-6)
    assert len(set(ends)) > 1


def test_one_member_diverges_and_the_others_go_on() -> None:
    quadratic = model()
    quadratic["layers"][1] = {"kind": "quadratic"}
    starts = [weights(1.0), weights(1e3)]
    training = DESCENT | {"steps": 200, "learning_rate": 0.01}
    points, last = whole(spec(training, weights=starts, model=quadratic))
    assert last.outcome is Outcome.DIVERGED
    assert last.detail["outcomes"] == ["stopped", "diverged"]
    assert points[-1].step == 200
    alone, _ = whole(spec(training, weights=starts[0], model=quadratic))
    assert_close(series(points, "loss")[:, 0], series(alone, "loss"))


def weights(scale: float) -> dict[str, Any]:
    """A drawn start, times a number."""
    network = spec(DESCENT).model.network((2,), seed=0)
    return {name: scale * p.numpy(force=True) for name, p in network.named_parameters()}


@pytest.mark.parametrize(
    "training",
    [
        DESCENT | {"momentum": 0.8, "batch_size": 2, "weight_decay": 0.01},
        DESCENT | {"batch_size": 2, "stop": {"loss_below": 0.3}, "steps": 200},
        ADAM | {"batch_size": 3},
        {"kind": "gradient_flow", "t_end": 6.0},
        {"kind": "gradient_flow", "t_end": 30.0, "stop": {"loss_below": 0.3}},
    ],
)
def test_resumed_runs_of_several_members_are_the_same_bits(training: dict[str, Any]) -> None:
    quantities = ["loss", "outputs", "weights", "kernel_distance", "path"]
    record = [{"what": what, "schedule": {"kind": "linear", "points": 30}} for what in quantities]
    run = spec(training, seeds=[0, 1, 2], record=record, model=model(initial_function="centred"))
    made: list[Segment] = []
    while not made or made[-1].outcome is None:
        checkpoint: Checkpoint | None = made[-1].checkpoint if made else None
        made.append(next(train(run, checkpoint, segment_seconds=-1.0)))
    points, last = whole(run)
    again = [point for segment in made for point in segment.points]
    assert made[-1].outcome is last.outcome
    assert [(p.step, p.time) for p in again] == [(p.step, p.time) for p in points]
    assert all(same(a.values, b.values) for a, b in zip(again, points, strict=True))


def same(first: Any, second: Any) -> bool:
    """Equal to the last bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return np.array_equal(first, second)


def test_standard_is_ntk_with_rates() -> None:
    """One hidden layer: the standard net is the NTK net with rate N on the read-out, on paired draws."""
    n = 8
    plain = run_of({"kind": "standard"}, {}, n)
    scaled = run_of({"kind": "ntk"}, {"layers.2.W": float(n), "layers.0.W": 2.0, "layers.0.b": 1.0}, n)
    assert_close(scaled, plain, rtol=1e-9)


@pytest.mark.parametrize(
    "training", [DESCENT | {"steps": 100, "learning_rate": 0.01}, {"kind": "gradient_flow", "t_end": 1.0}]
)
def test_mup_is_mean_field_with_scaled_rates(training: dict[str, Any]) -> None:
    mup = run_of({"kind": "mup"}, {}, 8, training)
    mean_field = run_of({"kind": "mean_field"}, {"layers.0": 8.0, "layers.2": 8.0}, 8, training)
    assert_close(mup, mean_field, rtol=1e-9)


def run_of(
    table: dict[str, Any], rates: dict[str, float], width: int, training: dict[str, Any] | None = None
) -> np.ndarray:
    """Recorded outputs of three members from the same seeds."""
    plain = training or DESCENT | {"steps": 100, "learning_rate": 0.01}
    record = [{"what": "outputs", "schedule": {"kind": "linear", "points": 11}}]
    chosen = plain | ({"learning_rates": rates} if rates else {})
    points, _ = whole(
        spec(chosen, model=model(width, parameterization=table), seeds=[0, 1, 2], record=record)
    )
    return series(points, "outputs")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"training": DESCENT | {"learning_rates": {"layers.1": 2.0}}}, "/training/learning_rates/layers.1"),
        (
            {"model": model(parameterization={"kind": "mup", "optimizer": "adam"})},
            "/model/parameterization/optimizer",
        ),
        (
            {"model": model(parameterization={"kind": "mup"}), "training": ADAM},
            "/model/parameterization/optimizer",
        ),
        ({"training": ADAM, "record": [{"what": "slopes"}]}, "/record/0"),
        ({"seeds": [1], "seed": 1}, "/seeds"),
        ({"weights": [{}]}, "/weights/0"),
        (
            {"training": DESCENT | {"loss": {"kind": "logistic"}}, "data": {"x": X, "y": [[0.0]] * 5}},
            "/data/y",
        ),
        ({"training": DESCENT | {"loss": {"kind": "cross_entropy"}}}, "/data/y"),
        ({"data": {"x": X, "y": Y, "y_test": Y}}, "/data/y_test"),
        ({"data": {"x": X, "y": Y, "x_test": X[:2], "y_test": Y}}, "/data/y_test"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_is(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec(**({"training": DESCENT} | changes)).check()
    assert caught.value.pointer == pointer


def test_costs_grow_with_the_members() -> None:
    one, many = spec(DESCENT).plan(), spec(DESCENT, seeds=list(range(10))).plan()
    assert many["bytes_kept"] == 10 * one["bytes_kept"]
    assert one["flops"] < many["flops"] < 10 * one["flops"]
    assert spec(DESCENT, seeds=[0, 1]).facts()["members"] == 2
    assert spec(DESCENT | {"momentum": 0.9}).facts()["time_per_step"] == pytest.approx(0.5)
    assert spec(ADAM).facts()["time_per_step"] is None


def test_losses_of_classes() -> None:
    """Values and derivatives, against torch's own."""
    from ntkengine.dynamics import CrossEntropy, Logistic

    f = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one_hot = torch.eye(3, dtype=torch.float64)[[0, 2, 1, 1, 0]]
    sums = [cross_entropy(each, one_hot, reduction="sum") for each in f]
    assert_close(CrossEntropy().value(f, one_hot), torch.stack(sums))
    signs = 2 * one_hot - 1
    assert_close(Logistic().value(f, signs), torch.log1p(torch.exp(-signs * f)).sum((1, 2)))
    for loss, y in ((CrossEntropy(), one_hot), (Logistic(), signs)):
        variable = f.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss.value(variable, y).sum(), variable, create_graph=True)
        assert_close(loss.derivative(f, y), gradient)
        (curved,) = torch.autograd.grad((gradient * v).sum(), variable)
        assert_close(loss.curvature(f, y, v), curved)


def test_test_loss() -> None:
    data = {"x": X, "y": Y, "x_test": X[:2], "y_test": [[2.0], [3.0]]}
    points, _ = whole(spec(DESCENT | {"steps": 2}, data=data))
    outputs = series(points, "outputs_test")
    assert_close(series(points, "loss_test"), 0.5 * ((outputs - [[2.0], [3.0]]) ** 2).sum((1, 2)))
