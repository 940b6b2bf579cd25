"""Runs of the real engine over HTTP."""

from __future__ import annotations

import io
import os
import signal

import numpy as np
import pytest

from ntkengine import dynamics
from ntkengine.dynamics import RunSpec
from ntkengine.spec import from_jsonable
from tests.service.examples import RUN, changed
from tests.service.server import JSONObject, Server, eventually


def test_large_arrays_are_references(engine: Server) -> None:
    record = [{"what": "kernel", "schedule": {"kind": "every", "steps": 1}}]
    data = {"x": [[i / 70] for i in range(70)], "y": [[0.0]] * 70}
    body: JSONObject = {**RUN, "record": record, "data": data}
    run_id = engine.create(changed(body, "/training/steps", 1))
    points = [event for event in engine.events(run_id) if event["kind"] == "point"]
    reference = points[0]["kernel"]
    assert reference["kind"] == "array"
    assert reference["shape"] == [70, 70]
    array = np.load(io.BytesIO(engine.client.get(reference["href"]).content))
    assert array.shape == (70, 70)
    assert np.array_equal(array, array.T)
    assert engine.show(run_id)["series"]["kernel"]["value"][0] == reference


def test_gradient_flow(engine: Server) -> None:
    body = changed(RUN, "/training", {"kind": "gradient_flow", "t_end": 0.05})
    run_id = engine.create(body)
    points = [event for event in engine.events(run_id) if event["kind"] == "point"]
    assert points[0]["step"] is None
    assert points[-1]["time"] == 0.05
    assert engine.show(run_id)["series"]["loss"]["step"][0] is None


@pytest.mark.faults
def test_run_with_a_killed_process_records_what_the_engine_computes(engine: Server) -> None:
    body: JSONObject = {
        **RUN,
        "training": {"kind": "gradient_descent", "learning_rate": 1e-5, "steps": 2500},
        "record": [{"what": "loss"}, {"what": "kernel", "schedule": {"kind": "every", "steps": 500}}],
    }
    run_id = engine.create(body)
    eventually(lambda: engine.show(run_id, fields="")["progress"]["segments"] >= 2)
    os.kill(engine.process_of(run_id), signal.SIGKILL)
    list(engine.events(run_id))
    run = engine.show(run_id, max_points=10_000)
    assert run["progress"]["crashes"] == 1
    assert (run["status"], run["outcome"]) == ("succeeded", "stopped")
    spec = from_jsonable(RunSpec, run["spec"])
    points = [point for segment in dynamics.train(spec) for point in segment.points]
    for what in ("loss", "kernel"):
        recorded = [point for point in points if what in point.values]
        series = run["series"][what]
        assert series["step"] == [point.step for point in recorded]
        assert series["value"] == [np.asarray(point.values[what]).tolist() for point in recorded]
        assert series["shape"] == list(np.shape(series["value"]))
