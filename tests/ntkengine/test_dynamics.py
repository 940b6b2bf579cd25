"""Recorded runs, held to what is known of them."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkengine import EngineError, NumericalError, RunSpec, empirical_ntk, train
from ntkengine.dynamics import Checkpoint, Outcome, Point, Segment
from ntkengine.experiments import EXPERIMENTS
from ntkengine.spec import from_jsonable, to_jsonable
from tests.cases import HALF, UNIFORM
from tests.compare import assert_close, relative_difference

NEURON = {"layers.0.W": [[1.0]], "layers.0.b": [0.5], "layers.2.W": [[2.0]]}
POINTS = {"x": [[1.0], [-1.0]], "y": [[1.0], [1.0]], "x_test": [[0.5]]}
ALL = [{"what": what} for what in ("loss", "outputs", "kernel", "slopes", "weights")]
FLOW = {"kind": "gradient_flow", "t_end": 5.0, "rtol": 1e-10, "atol": 1e-12}
DESCENT = {"kind": "gradient_descent", "learning_rate": 1e-3, "steps": 300}


def quadratic(width: int = 1, **fields: Any) -> dict[str, Any]:
    hidden = {"kind": "dense", "width": width, "W_law": UNIFORM, "b_std": 1.0, "b_law": HALF}
    return {
        "layers": [hidden, {"kind": "quadratic"}, {"kind": "dense", "width": 1, "W_law": UNIFORM}]
    } | fields


def spec(training: dict[str, Any], **changes: Any) -> RunSpec:
    base = {"model": quadratic(), "data": POINTS, "training": training, "record": ALL, "weights": NEURON}
    result: RunSpec = from_jsonable(RunSpec, base | changes)
    return result


def segments(run: RunSpec) -> list[Segment]:
    return list(train(run))


def points(run: RunSpec) -> list[Point]:
    return [point for segment in segments(run) for point in segment.points]


def series(recorded: list[Point], *names: str) -> np.ndarray:
    values: list[Any] = []
    for point in recorded:
        value: Any = point.values
        for name in names:
            value = value[name]
        values.append(value)
    return np.array(values)


def test_the_neuron_of_the_notes() -> None:
    run = segments(spec(FLOW | {"stop": {"loss_below": 1e-18}}))
    recorded = [point for segment in run for point in segment.points]
    kernel = series(recorded, "kernel")
    assert_close(kernel[0], [[77.0625, 0.5625], [0.5625, 8.0625]], rtol=1e-14)
    assert_close(kernel[-1], [[15.532, 0.27494], [0.27494, 15.532]], rtol=1e-5)
    assert relative_difference(kernel[-1], kernel[0]) == pytest.approx(0.79992, abs=5e-6)
    weights = recorded[-1].values["weights"]
    assert isinstance(weights, dict)
    end = [np.asarray(weights[name]).item() for name in NEURON]
    assert np.abs(end) == pytest.approx([0.72412, 0.0, 1.9071], abs=1e-4)
    assert run[-1].outcome is Outcome.CONVERGED
    assert run[-1].detail["evaluations"] > 100


@pytest.mark.parametrize(
    ("learning_rate", "expected"), [(1e-3, 1.667e-2), (1e-4, 1.671e-3), (1e-5, 1.672e-4)]
)
def test_measured_slope_of_a_step(learning_rate: float, expected: float) -> None:
    """`|(f_1 - f_0) / lr + Theta_0 r_0| / |Theta_0 r_0|`: what a finite step adds to the prediction."""
    training = {"kind": "gradient_descent", "learning_rate": learning_rate, "steps": 1}
    first, second = points(spec(training))
    slopes: Any = first.values["slopes"]
    assert relative_difference(slopes["measured"], slopes["predicted"]) == pytest.approx(expected, rel=5e-4)
    step = (np.asarray(second.values["outputs"]) - np.asarray(first.values["outputs"])) / learning_rate
    assert_close(slopes["measured"], step, rtol=1e-12)
    # with the right sign: the first output is above its target and falls
    assert np.asarray(first.values["outputs"])[0, 0] > 1
    assert slopes["measured"][0, 0] < 0


@pytest.mark.parametrize("part", ["", "_test"])
def test_differences_of_recorded_outputs_follow_the_kernel(part: str) -> None:
    """Fourth-order differences of what the flow recorded, against `-Theta r` from the recorded weights."""
    h = 5e-4
    times = (h * np.arange(401)).tolist()
    record = [{"what": what, "schedule": {"kind": "at", "at": times}} for what in ("outputs", "slopes")]
    recorded = points(spec(FLOW | {"t_end": times[-1]}, record=record))
    f = series(recorded, f"outputs{part}")
    differences = (f[:-4] - 8 * f[1:-3] + 8 * f[3:-1] - f[4:]) / (12 * h)
    assert_close(differences, series(recorded, f"slopes{part}", "predicted")[2:-2], rtol=1e-5)
    assert_close(
        series(recorded, f"slopes{part}", "measured"), series(recorded, f"slopes{part}", "predicted")
    )


def test_measured_slopes_do_not_touch_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    from ntkengine.dynamics import snapshot

    reference = series(points(spec(FLOW)), "slopes", "measured")

    def wrong_kernel(*arguments: Any, **options: Any) -> Any:
        return 2 * empirical_ntk(*arguments, **options)

    monkeypatch.setattr(snapshot, "empirical_ntk", wrong_kernel)
    changed = points(spec(FLOW))
    assert np.array_equal(series(changed, "slopes", "measured"), reference)
    assert_close(series(changed, "slopes", "predicted"), 2 * reference, rtol=1e-9)


def test_path_kernel_identity() -> None:
    """`f_T = f_0 - integral Theta_t r_t dt` from the recorded kernels, by Gauss-Legendre at the times."""
    end, panels = 0.4, 40
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half = end / panels / 2
    times = np.concatenate([(2 * i + 1) * half + half * nodes for i in range(panels)])
    record = [
        {"what": what, "schedule": {"kind": "at", "at": times.tolist()}} for what in ("outputs", "kernel")
    ]
    recorded = points(spec(FLOW | {"t_end": end}, record=record))
    f, kernel = series(recorded, "outputs")[..., 0], series(recorded, "kernel")
    rates = np.einsum("tij,tj->ti", kernel, f - 1.0)[1:-1]
    integral = (np.tile(weights, panels)[:, None] * half * rates).sum(0)
    assert_close(f[0] - integral, f[-1], rtol=1e-9)


def test_conserved_quantity_of_a_linear_neuron() -> None:
    """One linear neuron on (1, m): `w^2 - v^2` is conserved, `w^2` ends at `(c + sqrt(c^2 + 4 m^2)) / 2`."""
    m, w, v = 1.7, 0.3, -1.1
    run = spec(
        FLOW | {"t_end": 60.0, "rtol": 1e-8, "atol": 1e-10},
        model={"layers": [{"kind": "dense", "width": 1}, {"kind": "linear"}, {"kind": "dense", "width": 1}]},
        data={"x": [[1.0]], "y": [[m]]},
        weights={"layers.0.W": [[w]], "layers.2.W": [[v]]},
    )
    recorded = points(run)
    first, second = (series(recorded, "weights", name).ravel() for name in ("layers.0.W", "layers.2.W"))
    c = w**2 - v**2
    assert_close(first**2 - second**2, np.full_like(first, c), rtol=1e-7)
    assert first[-1] ** 2 == pytest.approx((c + np.hypot(c, 2 * m)) / 2, rel=1e-6)


STOP = {"stop": {"loss_below": 1e-3}}


@pytest.mark.parametrize(
    ("training", "start"),
    [
        (FLOW | {"t_end": 0.3}, "raw"),
        (FLOW | {"t_end": 0.3}, "doubled"),
        (FLOW | STOP, "raw"),
        (FLOW | STOP, "centred"),
        (DESCENT, "raw"),
        (DESCENT, "doubled"),
        (DESCENT | {"learning_rate": 0.01} | STOP, "raw"),
        (DESCENT | {"learning_rate": 1.0}, "raw"),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(training: dict[str, Any], start: str) -> None:
    schedule = {"kind": "linear", "points": 25}
    record = [{"what": what, "schedule": schedule} for what in ("outputs", "slopes", "weights")]
    run = spec(training, model=quadratic(initial_function=start), record=record)
    resumed = interrupted(run)
    assert resumed[-1].outcome is segments(run)[-1].outcome
    assert [segment.index for segment in resumed] == list(range(len(resumed)))
    assert_same(resumed, run)


@settings(max_examples=12, deadline=None)
@given(t_end=st.floats(1e-3, 2.0), below=st.sampled_from([None, 1e-1, 1e-5, 1e-9]), count=st.integers(2, 15))
def test_a_resumed_flow_ends_at_any_time(t_end: float, below: float | None, count: int) -> None:
    training = FLOW | {"t_end": t_end, "rtol": 1e-7} | ({"stop": {"loss_below": below}} if below else {})
    run = spec(training, record=[{"what": "weights", "schedule": {"kind": "linear", "points": count}}])
    assert_same(interrupted(run), run)


def interrupted(run: RunSpec) -> list[Segment]:
    """The run, stopped and taken up again at every opportunity."""
    made: list[Segment] = []
    while not made or made[-1].outcome is None:
        checkpoint: Checkpoint | None = made[-1].checkpoint if made else None
        made.append(next(train(run, checkpoint, segment_seconds=-1.0)))
    return made


def assert_same(resumed: list[Segment], run: RunSpec) -> None:
    """The points are those of the run that nothing stopped, to the last bit."""
    again, whole = [point for segment in resumed for point in segment.points], points(run)
    assert [(point.step, point.time) for point in again] == [(point.step, point.time) for point in whole]
    assert all(same(a.values, b.values) for a, b in zip(again, whole, strict=True))


def same(first: Any, second: Any) -> bool:
    """Equal to the last bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return np.array_equal(first, second)


def test_flow_is_the_limit_of_small_steps() -> None:
    """First order: halving the step halves the distance."""
    run = {"record": [{"what": "outputs"}]}
    exact = points(spec(FLOW | {"t_end": 0.1}, **run))[-1].values["outputs"]
    errors = []
    for steps in (200, 400, 800):
        training = {"kind": "gradient_descent", "learning_rate": 0.1 / steps, "steps": steps}
        last = points(spec(training, **run))[-1]
        assert last.time == pytest.approx(0.1)
        errors.append(relative_difference(last.values["outputs"], exact))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.03)


def test_divergence_is_an_outcome() -> None:
    run = segments(spec({"kind": "gradient_descent", "learning_rate": 1.0, "steps": 100}))
    last = run[-1].points[-1]
    assert run[-1].outcome is Outcome.DIVERGED
    assert last.step is not None
    assert last.step < 100
    assert finite(last.values)


def test_the_last_point_has_everything() -> None:
    record = [
        {"what": "loss", "schedule": {"kind": "every", "steps": 1}},
        {"what": "kernel", "schedule": {"kind": "every", "steps": 50}},
    ]
    run = segments(spec({"kind": "gradient_descent", "learning_rate": 1.0, "steps": 100}, record=record))
    recorded = [point for segment in run for point in segment.points]
    last = recorded[-1].step
    assert run[-1].outcome is Outcome.DIVERGED
    assert last not in (0, 50, 100)
    assert {name for point in recorded if point.step == last for name in point.values} == {"loss", "kernel"}


def finite(value: Any) -> bool:
    return all(map(finite, value.values())) if isinstance(value, dict) else bool(np.isfinite(value).all())


def test_stop_on_loss() -> None:
    stop = {"stop": {"loss_below": 1e-3}}
    descent = segments(spec(DESCENT | {"learning_rate": 0.01} | stop))
    before, last = descent[-1].points[-2:]
    assert descent[-1].outcome is Outcome.CONVERGED
    assert cast("float", last.values["loss"]) < 1e-3 <= cast("float", before.values["loss"])
    assert set(last.values) >= {
        "loss",
        "outputs",
        "outputs_test",
        "kernel",
        "slopes",
        "slopes_test",
        "weights",
    }
    flow = segments(spec(FLOW | stop))
    assert flow[-1].outcome is Outcome.CONVERGED
    end = cast("float", flow[-1].points[-1].values["loss"])
    assert end < 1e-3
    assert end == pytest.approx(1e-3, rel=1e-6)  # found inside the step
    assert flow[-1].progress == 1.0


def test_a_run_that_starts_below_the_threshold() -> None:
    run = segments(spec(FLOW | {"stop": {"loss_below": 100.0}}))
    assert [segment.outcome for segment in run] == [Outcome.CONVERGED]
    assert [point.time for point in run[0].points] == [0.0]


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_the_time_of_the_stop_is_found_at_any_scale(scale: float) -> None:
    """One linear unit on (scale, 1): the loss is `exp(-2 scale^2 t) / 2`."""
    run = segments(
        spec(
            {"kind": "gradient_flow", "t_end": 100.0 / scale**2, "stop": {"loss_below": 1e-6}},
            model={"layers": [{"kind": "dense", "width": 1}]},
            data={"x": [[scale]], "y": [[1.0]]},
            weights={"layers.0.W": [[0.0]]},
            record=[{"what": "loss"}],
        )
    )
    last = run[-1].points[-1]
    assert run[-1].outcome is Outcome.CONVERGED
    assert cast("float", last.values["loss"]) < 1e-6
    assert last.time * scale**2 == pytest.approx(np.log(0.5e6) / 2, rel=1e-3)


def test_schedules() -> None:
    schedules: list[tuple[dict[str, Any], list[int]]] = [
        ({"kind": "every", "steps": 4}, [0, 4, 8, 10]),
        ({"kind": "linear", "points": 3}, [0, 5, 10]),
        ({"kind": "logarithmic", "points": 3}, [0, 1, 3, 10]),
        ({"kind": "at", "at": [7, 2, 2]}, [0, 2, 7, 10]),
    ]
    for schedule, steps in schedules:
        run = spec(DESCENT | {"steps": 10}, record=[{"what": "loss", "schedule": schedule}])
        recorded = points(run)
        assert [point.step for point in recorded] == steps
        assert [point.time for point in recorded] == pytest.approx([1e-3 * step for step in steps])
        assert run.plan()["points"] == len(steps)


def test_quantities_keep_their_own_schedules() -> None:
    record = [
        {"what": "loss", "schedule": {"kind": "every", "steps": 1}},
        {"what": "kernel", "outputs": "full", "schedule": {"kind": "every", "steps": 5}},
    ]
    recorded = points(spec(DESCENT | {"steps": 10}, record=record))
    assert [point.step for point in recorded if "kernel" in point.values] == [0, 5, 10]
    assert len(recorded) == 11
    assert series(recorded[:1], "kernel").shape == (1, 2, 2, 1, 1)


@pytest.mark.parametrize(("kind", "factor"), [("half_sum", 1.0), ("half_mean", 1 / 2), ("mean", 1.0)])
def test_losses_differ_by_their_rate_factor(kind: str, factor: float) -> None:
    """A run on another loss with the rate divided by its factor is the run on half_sum."""
    plain = points(spec(DESCENT))
    run = spec(DESCENT | {"loss": {"kind": kind}, "learning_rate": 1e-3 / factor})
    facts = run.facts()
    assert facts["rate_factor"] == factor  # 1, 1 / (m k), 2 / (m k) at m = 2, k = 1
    assert facts["time_per_step"] == 1e-3 / factor
    other = points(run)
    assert_close(series(other, "outputs"), series(plain, "outputs"), rtol=1e-10)
    assert_close([p.time * factor for p in other], [p.time for p in plain])
    assert_close(series(other, "loss"), factor * series(plain, "loss"), rtol=1e-9)


def test_mean_field_learning_rates() -> None:
    """With `lr_scale: width` time runs N times faster; measured slopes say so, and predicted ones agree."""
    runs = []
    for lr_scale, time in (("none", 8.0), ("width", 1.0)):
        model = quadratic(8, parameterization={"kind": "mean_field", "lr_scale": lr_scale})
        run = spec(FLOW | {"t_end": time}, model=model, weights=None, seed=3)
        runs.append(points(run))
    slow, fast = runs
    assert_close(series(fast, "outputs"), series(slow, "outputs"), rtol=1e-6)
    for part in ("measured", "predicted"):
        assert_close(series(fast, "slopes", part), 8 * series(slow, "slopes", part), rtol=1e-6)


def test_unequal_learning_rates() -> None:
    """Each layer has its own N^-c, and the predicted slope knows it."""
    abc = {"kind": "abc", "input": {"a": 0.5, "c": -0.5}, "readout": {"a": 0.5, "c": 0.75}}
    recorded = points(spec(FLOW | {"t_end": 1.0}, model=quadratic(8, parameterization=abc), weights=None))
    measured, predicted = (series(recorded, "slopes", part) for part in ("measured", "predicted"))
    assert_close(measured, predicted)


def test_kernel_regime_of_a_wide_network() -> None:
    """Width 1024: the median relative kernel change is near 0.021, every seed in [0.011, 0.035]."""
    changes = []
    for seed in range(5):
        run = spec(
            {"kind": "gradient_flow", "t_end": 40.0},
            model=quadratic(1024),
            weights=None,
            seed=seed,
            record=[{"what": "kernel", "schedule": {"kind": "linear", "points": 2}}],
        )
        first, *_, last = points(run)
        changes.append(relative_difference(last.values["kernel"], first.values["kernel"]))
    assert all(0.011 <= change <= 0.035 for change in changes)


def test_cross_checked_by_another_solver() -> None:
    """Plain Euler steps of the notes' equations, written out, against gradient descent."""
    w, b, v = 1.0, 0.5, 2.0
    for _ in range(300):
        z = [(x, w * x + b) for x in (1.0, -1.0)]
        r = [v * zx**2 - 1.0 for _, zx in z]
        gw = sum(rx * 2 * v * zx * x for rx, (x, zx) in zip(r, z, strict=True))
        gb = sum(rx * 2 * v * zx for rx, (_, zx) in zip(r, z, strict=True))
        gv = sum(rx * zx**2 for rx, (_, zx) in zip(r, z, strict=True))
        w, b, v = w - 1e-3 * gw, b - 1e-3 * gb, v - 1e-3 * gv
    weights: Any = points(spec(DESCENT))[-1].values["weights"]
    assert_close([np.asarray(weights[name]).item() for name in NEURON], [w, b, v])


def test_a_start_that_is_not_finite() -> None:
    run = spec(FLOW, weights=NEURON | {"layers.2.W": [[1e200]]}, data=POINTS | {"x": [[1e100], [-1e100]]})
    with pytest.raises(NumericalError, match="not finite at the start"):
        segments(run)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_valid(name: str) -> None:
    experiment = EXPERIMENTS[name]
    experiment.spec.check()
    assert experiment.expect
    first = next(train(experiment.spec, segment_seconds=0.0))
    assert first.points[0].time == 0.0


@pytest.mark.long
@pytest.mark.parametrize(("width", "median"), [(2, 3.1), (10, 1.33), (100, 0.185)])
def test_kernel_changes_by_width(width: int, median: float) -> None:
    """The median relative kernel change over 30 seeds, against that of 600 by a plain numpy program."""
    run = spec(
        {"kind": "gradient_flow", "t_end": 40.0},
        model=quadratic(width),
        weights=None,
        seeds=list(range(30)),
        record=[{"what": "kernel", "schedule": {"kind": "linear", "points": 2}}],
    )
    first, *_, last = points(run)
    before, after = series([first, last], "kernel")
    changes = [relative_difference(end, start) for start, end in zip(before, after, strict=True)]
    assert np.median(changes) == pytest.approx(median, rel=0.35)


def test_digits_go_through_the_same_door() -> None:
    plain = to_jsonable(EXPERIMENTS["digits_relu"].spec)
    plain["training"]["steps"] = 5
    recorded = points(from_jsonable(RunSpec, plain))
    assert series(recorded[:1], "kernel").shape == (1, 200, 200)
    assert series(recorded[:1], "outputs_test").shape == (1, 50, 10)
    slopes: Any = recorded[0].values["slopes"]
    assert relative_difference(slopes["measured"], slopes["predicted"]) < 0.05
    losses = series(recorded, "loss")
    assert (np.diff(losses) < 0).all()


def test_errors_keep_their_place() -> None:
    with pytest.raises(EngineError) as caught:
        next(train(spec(FLOW, weights={})))
    assert caught.value.pointer == "/weights"
