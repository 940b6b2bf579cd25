"""Sweeps: the table against runs that are trained one by one, exponents, going on after a stop, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ntkengine import Data, Dense, GradientDescent, GradientFlow, Model, Quadratic, RunSpec, Stop, Tanh, train
from ntkengine.analysis import fit_exponent
from ntkengine.dynamics import (
    Adam,
    At,
    DisplacementRecord,
    KernelDistanceRecord,
    LinearizedRecord,
    LossRecord,
)
from ntkengine.errors import EngineError, SpecError
from ntkengine.pointers import along, is_within, keys_of, pointer_to, replaced
from ntkengine.spec import to_jsonable
from ntkengine.sweeps import Step, SweepAxis, SweepSpec, sweep
from tests.compare import assert_close

DATA = Data(x=[[1.0], [-1.0]], y=[[1.0], [0.5]], x_test=[[0.5]], y_test=[[1.0]])
DESCENT = GradientDescent(learning_rate=0.05, steps=30)
TWIN = (LinearizedRecord(),)
WIDTH, RATE = "/model/layers/0/width", "/training/learning_rate"


def network(width: int = 8, **more: Any) -> Model:
    return Model(layers=(Dense(width=width, b_std=1.0), Tanh(), Dense(width=1)), **more)


def base(**more: Any) -> RunSpec:
    return RunSpec(
        **{"model": network(), "data": DATA, "training": DESCENT, "record": (LossRecord(),), **more}
    )


def axis(field: str, *values: Any, also: tuple[str, ...] = ()) -> SweepAxis:
    return SweepAxis(field=field, values=values, also=also)


def swept(*axes: SweepAxis, run: RunSpec | None = None, **more: Any) -> SweepSpec:
    return SweepSpec(run=run or base(), axes=axes, **more)


def table(spec: SweepSpec) -> dict[str, Any]:
    *_, last = sweep(spec)
    assert last.result is not None
    json.dumps(last.result, allow_nan=False)
    return last.result


def trained_alone(width: int, rate: float, seed: int) -> dict[str, float]:
    """The end of one run by itself, with records of its own."""
    ends = At(at=(0.0,))
    records = [
        kind(schedule=ends)
        for kind in (LossRecord, KernelDistanceRecord, DisplacementRecord, LinearizedRecord)
    ]
    training = replace(DESCENT, learning_rate=rate)
    run = RunSpec(model=network(width), data=DATA, training=training, seed=seed, record=tuple(records))
    values: Any = [point for segment in train(run) for point in segment.points][-1].values
    return {
        "loss": values["loss"],
        "loss_test": values["loss_test"],
        "kernel_change": values["kernel_distance"],
        "weight_change": values["displacement"],
        "linearization_error": values["linearized"]["relative_error"],
    }


def test_rows_are_runs_trained_one_by_one() -> None:
    found = table(swept(axis(WIDTH, 4, 16), axis(RATE, 0.02, 0.1), run=base(seeds=(0, 1, 2), record=TWIN)))
    assert [row["values"] for row in found["rows"]] == [[4, 0.02], [4, 0.1], [16, 0.02], [16, 0.1]]
    for row in found["rows"]:
        width, rate = row["values"]
        alone = [trained_alone(width, rate, seed) for seed in (0, 1, 2)]
        for name in alone[0]:
            values = [each[name] for each in alone]
            assert_close(np.array(row[name]["median"]), np.array(np.median(values)), rtol=1e-9)
            assert row[name]["low"] <= row[name]["median"] <= row[name]["high"]
        assert (row["outcome"], row["members"], row["diverged"]) == ("stopped", 3, 0)
        assert row["steps"]["median"] == 30
        assert row["time"]["median"] == pytest.approx(30 * row["values"][1])


def test_one_seed_has_numbers_and_no_intervals() -> None:
    (row,) = table(swept(axis("/seed", 5)))["rows"]
    alone = trained_alone(8, 0.05, 5)
    assert row["kernel_change"] == {
        "median": pytest.approx(alone["kernel_change"], rel=1e-9),
        "low": None,
        "high": None,
    }


def test_without_twin_and_test_targets_there_are_no_such_numbers() -> None:
    run = base(data=replace(DATA, y_test=None))
    (row,) = table(swept(axis("/seed", 0), run=run))["rows"]
    assert row["loss_test"] is None
    assert row["linearization_error"] is None
    assert row["loss"]["median"] > 0


def test_any_field_can_be_an_axis() -> None:
    kinds = axis("/model/parameterization", {"kind": "ntk"}, {"kind": "standard"})
    steps = axis(
        "/training",
        {"kind": "adam", "steps": 3},
        {"kind": "gradient_descent", "learning_rate": 1e-3, "steps": 4},
    )
    within = axis(RATE, 1e-3, 1e-2)
    rows = table(swept(kinds, steps, within, run=base(record=(LossRecord(),))))["rows"]
    assert len(rows) == 8
    assert [row["steps"]["median"] for row in rows[:4]] == [3, 3, 4, 4]
    assert [row["time"] is None for row in rows[:4]] == [True, True, False, False]
    assert len({row["kernel_change"]["median"] for row in rows}) == 8


def test_fields_that_go_together() -> None:
    deep = Model(layers=(Dense(width=4), Tanh(), Dense(width=4), Tanh(), Dense(width=1)))
    spec = swept(axis(WIDTH, 2, 6, also=("/model/layers/2/width",)), run=base(model=deep))
    widths = [
        [layer.width for layer in run.model.layers if isinstance(layer, Dense)] for _, run in spec.runs()
    ]
    assert widths == [[2, 2, 1], [6, 6, 1]]


def test_zipped_axes_go_together() -> None:
    spec = swept(axis(WIDTH, 4, 8, 16), axis(RATE, 0.1, 0.05, 0.025), combine="zip")
    assert [spec.values(each) for each in spec.combinations()] == [[4, 0.1], [8, 0.05], [16, 0.025]]
    found = table(spec)
    assert {(fitted["field"], *fitted["at"]) for fitted in found["exponents"]} == {(WIDTH,), (RATE,)}


def test_outcomes() -> None:
    training = replace(DESCENT, stop=Stop(loss_below=0.1), steps=200)
    rows = table(swept(axis(RATE, 1e-6, 0.05, 50.0), run=base(training=training, seeds=(0, 1))))["rows"]
    assert [row["outcome"] for row in rows] == ["stopped", "converged", "diverged"]
    assert [row["diverged"] for row in rows] == [0, 0, 2]
    assert rows[2]["kernel_change"] is None
    assert rows[1]["steps"]["high"] < 200


def test_numbers_are_of_the_members_that_did_not_diverge() -> None:
    """Where the learning rate is near the limit, which depends on the seed."""
    model = Model(layers=(Dense(width=8, b_std=1.0), Quadratic(), Dense(width=1)))
    run = base(model=model, seeds=tuple(range(8)))
    rows = table(swept(axis(RATE, 0.05, 0.2, 0.3, 0.4, 0.5), run=run))["rows"]
    some = [row for row in rows if 0 < row["diverged"] < 7]
    assert some
    assert all(row["outcome"] == "diverged" and row["loss"]["high"] < 1e6 for row in some)


def test_a_combination_out_of_range_is_a_row_that_says_so() -> None:
    layers = (Dense(width=2), Quadratic(), Dense(width=2), Quadratic(), Dense(width=1))
    run = base(model=Model(layers=layers))
    scale = axis("/model/layers/0/W_std", 1.0, 1e30, also=("/model/layers/2/W_std", "/model/layers/4/W_std"))
    rows = table(swept(scale, run=run))["rows"]
    assert rows[0]["error"] is None
    assert "not finite" in rows[1]["error"]
    assert rows[1]["outcome"] is None
    assert rows[1]["loss"] is None


@pytest.mark.parametrize("seeds", [(0,), tuple(range(6))])
def test_exponents_are_those_of_the_rows(seeds: tuple[int, ...]) -> None:
    """The kernel of the quadratic network changes as 1/N under ntk, its weights as N^-1/2."""
    model = Model(layers=(Dense(width=8, b_std=1.0), Quadratic(), Dense(width=1)))
    flow = GradientFlow(t_end=20.0, rtol=1e-6, stop=Stop(loss_below=1e-4))
    run = base(model=model, training=flow, seeds=seeds)
    found = table(swept(axis(WIDTH, 64, 256, 1024), axis("/training/t_end", 10.0, 20.0), run=run))
    fitted = {(each["of"], each["at"]["/training/t_end"]): each for each in found["exponents"]}
    assert len(fitted) == len(found["exponents"]) == 4
    for of, power in (("kernel_change", -1.0), ("weight_change", -0.5)):
        here = fitted[of, 20.0]
        rows = [row for row in found["rows"] if row["values"][1] == 20.0]
        medians = [[row[of]["median"]] * 2 for row in rows]
        assert here["values"] == [64, 256, 1024]
        assert here["slope"] == pytest.approx(fit_exponent(here["values"], medians).slope, abs=1e-12)
        assert here["slope"] == pytest.approx(power, abs=0.35)
        assert (here["low"] is None) == (len(seeds) == 1)


def test_no_exponent_in_what_is_no_quantity() -> None:
    for each in (axis("/seed", 1, 2, 3), axis(WIDTH, 4, 8), axis("/training/momentum", 0.0, 0.1, 0.2)):
        assert table(swept(each))["exponents"] == []


def resumed(spec: SweepSpec, step: Step) -> list[Step]:
    checkpoint = {name: array.copy() for name, array in step.checkpoint.items()}
    return list(sweep(spec, checkpoint, segment_seconds=0.0))


@pytest.mark.parametrize(
    ("training", "other", "record"),
    [
        pytest.param(DESCENT, axis(RATE, 0.02, 500.0), TWIN, id="descent"),
        pytest.param(GradientFlow(t_end=1.0), axis("/training/t_end", 0.5, 1.0), (LossRecord(),), id="flow"),
    ],
)
def test_from_any_checkpoint_it_comes_to_the_same_table(training: Any, other: SweepAxis, record: Any) -> None:
    spec = swept(axis(WIDTH, 2, 4, 8), other, run=base(training=training, seeds=(0, 1), record=record))
    steps = list(sweep(spec, segment_seconds=0.0))
    shares = [step.progress for step in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [step.row["index"] for step in steps if step.row is not None] == list(range(6))
    for at in range(0, len(steps), max(1, len(steps) // 8)):
        rest = resumed(spec, steps[at])
        assert rest[-1].result == steps[-1].result
        new = [step.row["index"] for step in rest if step.row is not None]
        assert new == list(range(steps[at].done, 6))  # what was done is not computed again
    under_way = next(step for step in steps if step.done == 2 and step.row is None)
    assert len(resumed(spec, under_way)) < len(resumed(spec, steps[0]))


def test_a_run_that_ends_where_it_begins_keeps_its_point() -> None:
    run = base(training=replace(DESCENT, stop=Stop(loss_below=1e6)))
    spec = swept(axis(WIDTH, 2, 4), run=run)
    rows = [step.row for step in sweep(spec, segment_seconds=0.0) if step.row is not None]
    assert [row["outcome"] for row in rows] == ["converged", "converged"]
    assert all(row["kernel_change"]["median"] == 0.0 and row["loss"]["median"] > 0 for row in rows)


def test_the_plan_is_that_of_the_runs() -> None:
    spec = swept(axis(WIDTH, 4, 64), axis("/training/steps", 10, 20))
    plan, runs = spec.plan(), [run.plan() for _, run in spec.runs()]
    assert plan["combinations"] == spec.count == 4
    assert plan["flops"] == sum(each["flops"] for each in runs)
    assert plan["bytes"] == max(each["bytes"] for each in runs)


TWICE = {"kind": "gradient_descent", "learning_rate": 0.1, "steps": 9}


@pytest.mark.parametrize(
    ("axes", "more", "pointer", "says"),
    [
        ([axis(WIDTH, 4, 0)], {}, "/axes/0/values/1", "combination 1 (/model/layers/0/width = 0)"),
        ([axis(WIDTH, 4), axis(RATE, 0.1, "fast")], {}, "/axes/1/values/1", "combination 1"),
        ([axis("/model/layers/7/width", 4)], {}, "/axes/0/field", "no place /model/layers/7/width"),
        ([axis("/training/stop/loss_below", 0.1)], {}, "/axes/0/field", "no place"),
        ([axis("/training/learning_rat", 0.1)], {}, "/axes/0/values/0", "/training/learning_rat"),
        ([axis("/model/layers/2/width", 1, 3)], {}, "/axes/0/values/1", "targets have shape"),
        ([axis(WIDTH, 4), axis("/model/layers/2/width", 3)], {}, "/axes", "targets have shape"),
        ([axis("/seeds", [0, 1], [0, 1])], {}, "/axes/0/values/1", "twice"),
        ([axis("/seed", 1), axis("/seeds", [0])], {}, "/axes/1/values/0", "seeds stand in place"),
        ([axis(RATE, 0.1), axis("/training", TWICE)], {}, "/axes/1/field", "undo"),
        ([axis(WIDTH, 4, also=(WIDTH,))], {}, "/axes/0/field", "undo"),
        ([axis(WIDTH, 4, 8), axis(RATE, 0.1)], {"combine": "zip"}, "/axes", "zipped"),
        ([axis(WIDTH, 4, 4)], {"combine": "zip"}, "/axes/0/values/1", "twice"),
        ([axis("/training/learning_rates", {"layers.0" * 300: 1.0})], {}, "/axes/0/values/0", "characters"),
        ([axis(WIDTH, *range(1, 1001)), axis("/seed", *range(11))], {}, "/axes", "11,000 combinations"),
        ([axis(WIDTH, 4)], {"run": base(seeds=tuple(range(1001)))}, "/run/seeds", "1,001 members"),
        ([axis("/training/learning_rates", {"layers.9": 1.0})], {}, "/axes/0/values/0", "layers.9"),
    ],
)
def test_refused_with_the_value(axes: list[SweepAxis], more: Any, pointer: str, says: str) -> None:
    with pytest.raises(EngineError) as error:
        swept(*axes, **more).check()
    assert error.value.pointer == pointer
    assert says in str(error.value)


def test_what_is_wrong_with_the_run_itself_is_said_of_it() -> None:
    run = base(data=replace(DATA, y=[[1.0]]))
    with pytest.raises(SpecError) as error:
        swept(axis(WIDTH, 4), run=run).check()
    assert error.value.pointer == "/run/data/y"


def test_specs_are_values_too() -> None:
    spec = swept(axis("/training", Adam(steps=2), DESCENT))
    assert [type(run.training) for _, run in spec.runs()] == [Adam, GradientDescent]
    assert spec.values(spec.combinations()[0])[0]["kind"] == "adam"
    assert to_jsonable(spec)["axes"][0]["values"][0]["kind"] == "adam"
    rates = SweepAxis(field=RATE, values=tuple(np.geomspace(0.1, 1.0, 3)))
    assert [type(value) for value in rates.values] == [float] * 3
    layers = SweepAxis(field="/model/layers", values=([Dense(width=2), Tanh(), Dense(width=1)],))
    assert [run.model.layers for _, run in swept(layers).runs()] == [(Dense(width=2), Tanh(), Dense(width=1))]
    assert axis("/data/x", np.eye(2)).values == ([[1.0, 0.0], [0.0, 1.0]],)
    with pytest.raises(ValidationError):
        axis(RATE, object())


def test_pointers() -> None:
    tree = {"a/b": [{"c~": 1}, 2], "d": None}
    assert keys_of(pointer_to("a/b", 0, "c~")) == ("a/b", "0", "c~")
    assert replaced(tree, ("a/b", "0", "c~"), 5) == {"a/b": [{"c~": 5}, 2], "d": None}
    assert replaced(tree, ("new",), 5)["new"] == 5
    assert tree == {"a/b": [{"c~": 1}, 2], "d": None}
    for nowhere in (("a/b", "2"), ("a/b", "-"), ("d", "e"), ("new", "e")):
        with pytest.raises(KeyError):
            replaced(tree, nowhere, 0)
    assert is_within("/a/b", "/a")
    assert not is_within("/ab", "/a")
    assert along(tree, ["a/b", "a union's member", 0, "c~"]) == "/a~1b/0/c~0"
    assert along(tree, ["d", "missing"], ends_in_a_key=True) == "/d/missing"
