"""POST /influence."""

from __future__ import annotations

from service.routes.influence import EXAMPLE
from tests.compare import assert_close
from tests.service.problems import check_problem
from tests.service.server import Server

BODY = EXAMPLE["value"]


def test_the_example_runs(engine: Server) -> None:
    answer = engine.client.post("/influence", json=BODY)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert_close(found["after"][2], [0.5], rtol=0.05)
    assert found["relative_error"] < 0.05


def test_bad_input(engine: Server) -> None:
    for change, pointer in (({"x_new": [[1.0, 2.0]]}, "/x_new"), ({"points": [[1.0, 2.0]]}, "/points")):
        problem = check_problem(engine.client.post("/influence", json=BODY | change), 422)
        assert problem["errors"][0]["pointer"] == pointer
    long = {"training": {"kind": "gradient_flow", "t_end": 1.0}, "points": [[0.0]] * 5000}
    check_problem(engine.client.post("/influence", json=BODY | long), 422)
