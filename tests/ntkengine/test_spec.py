"""Specs: what JSON may say, what it may not, and what comes back."""

import json
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from ntkengine import EngineError, KernelSpec, Model, RunSpec
from ntkengine.experiments import EXPERIMENTS
from ntkengine.spec import from_jsonable, to_jsonable
from tests.cases import DENSE, finite_cases, run_request

MODEL: Model = from_jsonable(Model, {"layers": [DENSE]})


@pytest.mark.parametrize("model", finite_cases())
def test_round_trip(model: Model) -> None:
    text = json.dumps(to_jsonable(model))
    assert from_jsonable(Model, json.loads(text)) == model


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_round_trip(name: str) -> None:
    plain = to_jsonable(EXPERIMENTS[name].spec)
    again = from_jsonable(RunSpec, json.loads(json.dumps(plain)))
    again.check()
    assert to_jsonable(again) == plain


def test_arrays_round_trip() -> None:
    small, large = np.array([[0.1, 1e-300]]), np.random.default_rng(0).standard_normal((100, 50))
    for array in (small, large):
        spec = KernelSpec(model=MODEL, x1=array)
        again = from_jsonable(KernelSpec, json.loads(json.dumps(to_jsonable(spec))))
        assert np.array_equal(again.x1, array)


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        MODEL.output_scale = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("layer", "where", "message"),
    [
        ({"kind": "densse"}, (), "does not match any of the expected tags"),
        ({}, (), "Unable to extract tag"),
        ({**DENSE, "units": 3}, ("dense", "units"), "Unexpected keyword"),
        ({**DENSE, "width": -1}, ("dense", "width"), "greater than or equal to 1"),
        ({**DENSE, "width": True}, ("dense", "width"), "valid integer"),
        ({**DENSE, "width": "3"}, ("dense", "width"), "valid integer"),
        ({**DENSE, "W_std": float("nan")}, ("dense", "W_std"), "finite"),
        ({**DENSE, "W_law": {"kind": "cauchy"}}, ("dense", "W_law"), "expected tags"),
        ({"kind": "student_t"}, (), "expected tags"),
        ({"kind": "serial", "layers": []}, ("serial", "layers"), "at least 1 item"),
        ({"kind": "serial", "layers": [{"kind": "nope"}]}, ("serial", "layers", 0), "expected tags"),
        ({"kind": "monomial", "degree": 99}, ("monomial", "degree"), "less than or equal to 20"),
    ],
)
def test_bad_layers(layer: dict[str, Any], where: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        from_jsonable(Model, {"layers": [layer]})
    first = caught.value.errors()[0]
    assert first["loc"] == ("layers", 0, *where)
    assert message in first["msg"]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, 2.0], [3.0]], r"entry \[1\] has 1 entries, entry \[0\] has 2"),
        ([[1.0], 2.0], r"entry \[1\] has a number"),
        ([[[1.0], [2.0]], [[1.0], [2.0, 3.0]]], r"entry \[1\]\[1\] has 2 entries"),
        ([[1.0], [float("nan")]], r"entry \[1\]\[0\] is nan"),
        ([[1.0], [float("inf")]], r"entry \[1\]\[0\] is inf"),
        ([["a"]], "numbers of ordinary size"),
        ([["1.5"]], "numbers of ordinary size"),
        ([[None]], "numbers of ordinary size"),
        ([[True]], "numbers of ordinary size"),
        ([[10**400]], "numbers of ordinary size"),
        ([], "empty"),
        ([[]], "empty"),
        ({"kind": "npy", "base64": "????"}, "does not hold an .npy"),
        ({"kind": "npy", "base64": "AAAA"}, "does not hold an .npy"),
        ({"kind": "npy"}, "nothing else"),
        ({"kind": "csv"}, "kind"),
        ({"kind": "dataset", "name": "imagenet"}, "digits"),
    ],
)
def test_bad_arrays(x: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        from_jsonable(KernelSpec, {"model": to_jsonable(MODEL), "x1": x})


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"data": {"x": [[1.0]], "y": [[1.0]]}}, "/data/y"),
        ({"data": {"x": [[1.0]], "y": [1.0, 0.0]}}, "/data/y"),
        ({"data": {"x": [1.0, 2.0], "y": [[1.0, 0.0]]}}, "/data/x"),
        ({"data": {"x": [[1.0]], "y": [[1.0, 0.0]], "x_test": [[1.0, 2.0]]}}, "/data/x_test"),
        ({"model": {"layers": [{"kind": "dense"}]}}, "/model/layers/0/width"),
        ({"model": {"layers": [{"kind": "relu"}]}}, "/model/layers"),
        ({"model": {"layers": [DENSE] * 3, "parameterization": {"kind": "mean_field"}}}, "/model/layers/1"),
        ({"weights": {"layers.0.W": [[1.0]]}}, "/weights/layers.0.W"),
        ({"weights": {}}, "/weights"),
        ({"weights": {"layers.0.W": [[1.0, 2.0]], "layers.0.b": [1.0]}}, "/weights/layers.0.b"),
        ({"weights": {"layers.0.W": [[1.0, 2.0]]}, "seed": 1}, "/weights"),
        ({"record": [{"what": "loss"}, {"what": "loss"}]}, "/record/1"),
        ({"record": [{"what": "loss", "schedule": {"kind": "at", "at": [11]}}]}, "/record/0/schedule/at"),
        (
            {
                "training": {"kind": "gradient_flow", "t_end": 1.0},
                "record": [{"what": "loss", "schedule": {"kind": "every", "steps": 2}}],
            },
            "/record/0/schedule",
        ),
        (
            {"model": {"layers": [{"kind": "dense", "width": 5000}, DENSE]}, "record": [{"what": "weights"}]},
            "/record/0",
        ),
    ],
)
def test_parts_that_do_not_fit(changes: dict[str, Any], pointer: str) -> None:
    spec: RunSpec = from_jsonable(RunSpec, run_request(**changes))
    with pytest.raises(EngineError) as caught:
        spec.check()
    assert caught.value.pointer == pointer
    assert caught.value.hint


@pytest.mark.parametrize("spec", [KernelSpec, RunSpec])
def test_every_field_is_described(spec: type) -> None:
    schema = TypeAdapter(spec).json_schema()
    objects = {spec.__name__: schema} | schema["$defs"]
    bare = [
        f"{name}.{field}"
        for name, each in objects.items()
        for field, body in each.get("properties", {}).items()
        if field != "kind" and "description" not in body
    ]
    assert not bare
    assert all(each.get("description") for each in objects.values())
