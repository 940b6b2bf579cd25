"""What is too large, or lies about itself, is refused before any work, with an error of ours."""

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from ntkengine import EngineError, KernelSpec, Model, RunSpec
from ntkengine.spec import from_jsonable
from tests.cases import DENSE, run_request

HUGE = 10**400


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"kind": "gradient_descent", "learning_rate": 0.1, "steps": HUGE}},
        {"training": {"kind": "gradient_descent", "learning_rate": 1e300, "steps": 1}},
        {"training": {"kind": "gradient_flow", "t_end": 1e-320}},
        {"model": {"layers": [{"kind": "dense", "width": HUGE}]}},
        {"model": {"layers": [DENSE], "output_scale": 1e200}},
        {"model": {"layers": [DENSE | {"W_law": {"kind": "laplace", "scale": 1e200}}]}},
        {"model": {"layers": [DENSE], "parameterization": {"kind": "standard", "base_width": HUGE}}},
        {
            "model": {
                "layers": [DENSE],
                "parameterization": {"kind": "abc", "input": {"a": -2000}, "readout": {}},
            }
        },
        {"record": [{"what": "loss", "schedule": {"kind": "linear", "points": 10**9}}]},
        {"record": [{"what": "loss", "schedule": {"kind": "every", "steps": HUGE}}]},
        {"record": [{"what": "loss", "schedule": {"kind": "at", "at": [0.5]}}]},
        {
            "training": {"kind": "gradient_descent", "learning_rate": 0.1, "steps": 10**12},
            "record": [{"what": "loss", "schedule": {"kind": "every", "steps": 1}}],
        },
        {"weights": {"layers.0.W": {"kind": "dataset", "name": "digits"}}},
        {"seed": HUGE},
        {"seed": -1},
    ],
)
def test_runs(changes: dict[str, Any]) -> None:
    with pytest.raises((EngineError, ValidationError)):
        from_jsonable(RunSpec, run_request(**changes)).check()


def npy(header: bytes) -> dict[str, str]:
    """An .npy file with that header and 8 bytes."""
    raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)
    return {"kind": "npy", "base64": base64.b64encode(raw).decode()}


def nested(depth: int) -> Any:
    """A ragged list, that deep in lists."""
    inner: Any = [[1.0], 2.0]
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**15,)}"), "does not hold an .npy"),
        (npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,)}"), "that no file"),
        (npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"), "entries are of type object"),
        (npy(b"{'descr': ("), "does not hold an .npy"),
        (npy(b"'" * 3), "does not hold an .npy"),
        (nested(900), "deep"),
    ],
)
def test_arrays(x: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        from_jsonable(KernelSpec, {"model": {"layers": [DENSE]}, "x1": x})


def test_an_honest_npy_is_read() -> None:
    spec = {
        "model": {"layers": [DENSE]},
        "x1": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1)}"),
    }
    assert from_jsonable(KernelSpec, spec).x1.tolist() == [[0.0]]


def test_many_layers_are_placed_in_one_pass() -> None:
    model: Model = from_jsonable(Model, {"layers": [{"kind": "relu"}] * 20_000 + [DENSE]})
    assert model.place((3,)).out_shape == (2,)


def test_the_plan_knows_the_size_of_the_answer() -> None:
    """65,536 outputs: one pair's block has 4 billion entries."""
    spec: KernelSpec = from_jsonable(
        KernelSpec,
        {
            "model": {"layers": [{"kind": "dense", "width": 65_536}]},
            "x1": [[1.0]],
            "of": {"kind": "infinite", "outputs": "full"},
        },
    )
    assert spec.plan().bytes > 8 * 65_536**2


def test_the_plan_of_a_run_knows_its_records() -> None:
    digits = {"kind": "dataset", "name": "digits", "limit": 1000}
    full = [{"what": "kernel", "outputs": "full", "schedule": {"kind": "linear", "points": 200}}]
    spec = run_request(
        model={"layers": [{"kind": "dense", "width": 10}]}, data={"x": digits, "y": digits}, record=full
    )
    plan = from_jsonable(RunSpec, spec).plan()
    assert plan["bytes"] >= 8 * (1000 * 10) ** 2
    assert plan["bytes_kept"] >= 11 * 8 * (1000 * 10) ** 2
