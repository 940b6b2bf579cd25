"""POST /predict, with the real engine."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compare import assert_close
from tests.service.examples import MODEL, changed
from tests.service.problems import check_problem
from tests.service.server import Server

GOLDEN = Path(__file__).parents[1] / "golden" / "predict"
CASES = [
    pytest.param(case, id=case["id"]) for case in json.loads((GOLDEN / "manifest.json").read_text())["cases"]
]
NPZ = {"Accept": "application/x-npz"}
BODY: dict[str, Any] = {
    "model": MODEL,
    "data": {"x": [[1.0], [-1.0]], "y": [[1.0], [1.0]], "x_test": [[0.5]]},
    "training": {"kind": "gradient_flow", "times": [0, 1.5, "inf"]},
}


@pytest.mark.parametrize("case", CASES)
def test_reference_predictions(engine: Server, case: dict[str, Any]) -> None:
    """From the network and the data alone: our kernels, our ridge, our closed form."""
    with np.load(GOLDEN / case["arrays"], allow_pickle=False) as file:
        known = dict(file)
    scale = case["learning_rate"]
    body = {
        "model": case["model"] | {"layers": with_outputs(case["model"]["layers"], known["y_train"].shape[1])},
        "data": {
            "x": known["x_train"].tolist(),
            "y": known["y_train"].tolist(),
            "x_test": known["x_test"].tolist(),
        },
        "of": {"kind": "infinite", "widths": case.get("widths", "limit")},
        "training": {
            "kind": "gradient_flow",
            "times": [t if t == "inf" else t * scale for t in case["t"]],
            "loss": {"kind": "half_mean"},
        },
        "covariance": True,
    }
    for name in ("ntk", "nngp"):
        diagonal = (
            1.0 if case["diag_reg_absolute_scale"] else np.trace(known[f"{name}_dd"]) / len(known["y_train"])
        )
        more = {"inference": name, "ridge": case["diag_reg"] * diagonal}
        answer = engine.client.post("/predict", json=body | more, headers=NPZ)
        assert answer.status_code == 200, answer.text
        with np.load(io.BytesIO(answer.content), allow_pickle=False) as archive:
            for i, t in enumerate(case["t"]):
                for ours, theirs in (("mean_test", "mean"), ("covariance_test", "cov")):
                    want = known[f"ens_{name}_{theirs}_t{float(t):g}"]
                    assert_close(archive[ours][i], want, rtol=case["rtol"])


def with_outputs(layers: list[Any], k: int) -> list[Any]:
    return [*layers[:-1], layers[-1] | {"width": k}]


def test_json(engine: Server) -> None:
    answer = engine.client.post("/predict", json=changed(BODY, "/covariance", True)).json()
    assert answer["times"] == [0.0, 1.5, "inf"]
    assert answer["mean_train"][0] == pytest.approx(np.zeros((2, 1)), abs=1e-12)
    assert answer["mean_train"][2] == pytest.approx(np.ones((2, 1)), rel=1e-12)
    assert np.shape(answer["covariance_test"]) == (3, 1, 1)
    assert answer["diagnostics"]["rank"] == 2
    assert answer["plan"]["solver"]["method"] == "eigendecomposition"
    binary = engine.client.post("/predict", json=changed(BODY, "/covariance", True), headers=NPZ)
    with np.load(io.BytesIO(binary.content), allow_pickle=False) as archive:
        assert archive["times"].tolist() == [0.0, 1.5, np.inf]
        assert archive["mean_test"].tolist() == answer["mean_test"]


def test_files(engine: Server) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([[1.0], [-1.0]]))
    request = json.dumps(changed(BODY, "/data/x", ...))
    parts: Any = {"request": (None, request, "application/json"), "x": ("x.npy", buffer.getvalue())}
    answer = engine.client.post("/predict", files=parts)
    assert answer.json()["mean_test"] == engine.client.post("/predict", json=BODY).json()["mean_test"]


@pytest.mark.parametrize(
    ("pointer", "value", "where"),
    [
        ("/training/times", [-1], "/training/times/0"),
        ("/training/times", [], "/training/times"),
        ("/training/kind", "adam", "/training"),
        ("/training/steps", [1], "/training/steps"),
        ("/ridge", -1, "/ridge"),
        ("/inference", "magic", "/inference"),
        ("/data/y", [[1.0]], "/data/y"),
        ("/data/y", [1.0, 1.0], "/data/y"),
        ("/model/layers/1/kind", "no such layer", "/model/layers/1"),
        ("/of", {"kind": "given", "ntk": {"train_train": [[1.0]]}}, "/model"),
        ("/of", {"kind": "empirical", "weights": {}}, "/of/weights"),
        ("/what", 1, "/what"),
    ],
)
def test_bad_input(engine: Server, pointer: str, value: Any, where: str) -> None:
    problem = check_problem(engine.client.post("/predict", json=changed(BODY, pointer, value)), 422)
    assert where in [offence["pointer"] for offence in problem["errors"]]


def test_limits(engine: Server) -> None:
    rows = np.zeros((4001, 1)).tolist()
    body = changed(changed(BODY, "/data/x", rows), "/data/y", rows)
    assert check_problem(engine.client.post("/predict", json=body), 422)["limit"] == {"points": 4000}
    many = changed(changed(BODY, "/training/times", list(range(9000))), "/data/x_test", rows[:900])
    assert "numbers in JSON" in check_problem(engine.client.post("/predict", json=many), 422)["detail"]


def test_an_unstable_descent_is_refused_in_words(engine: Server) -> None:
    training = {"kind": "gradient_descent", "learning_rate": 1e9, "steps": [10_000]}
    problem = check_problem(engine.client.post("/predict", json=changed(BODY, "/training", training)), 422)
    assert problem["errors"][0]["pointer"] == "/training/learning_rate"
