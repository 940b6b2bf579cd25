"""A run as a file, against what the service says of it and what was recorded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.runs import export
from service.runs.export import FORMATS, Recorded
from tests.service.examples import RUN, changed
from tests.service.server import Server, eventually

REFERENCE = {"kind": "array", "digest": "d", "shape": [2, 2], "dtype": "float64", "href": "/x"}
POINTS: list[dict[str, Any]] = [
    {"kind": "point", "seq": 1, "at": "", "step": 0, "time": 0.0, "loss": 0.1 + 0.2,
     "slopes": {"measured": [1.0, 2.0], "predicted": [3.0, 4.0]}, "kernel": REFERENCE},
    {"kind": "point", "seq": 2, "at": "", "step": 1, "time": 0.5, "loss": 1e-300},
    {"kind": "point", "seq": 4, "at": "", "step": 7, "time": 3.5, "loss": None,
     "slopes": {"measured": [5.0, 6.0], "predicted": [7.0, 8.0]}, "kernel": [[5.0, 6.0], [7.0, 8.0]]},
]  # fmt: skip


def written(form: str) -> bytes:
    with Recorded() as recorded:
        for point in POINTS:
            recorded.add(point, lambda reference: np.array([[1.0, 2.0], [3.0, 4.0]]))
        return b"".join(FORMATS[form].write(recorded, {"id": "a"}, {"seed": 0}))


@pytest.fixture(params=[1 << 20, 16], ids=["in memory", "on disk"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("_blocks")
def test_an_npz_has_each_quantity_with_its_own_axes() -> None:
    with np.load(io.BytesIO(written("npz")), allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    assert json.loads(str(arrays.pop("about"))) == {"id": "a"}
    assert json.loads(str(arrays.pop("spec"))) == {"seed": 0}
    expected: dict[str, Any] = {
        "loss.step": [0, 1, 7],
        "loss.time": [0.0, 0.5, 3.5],
        "loss.value": [0.1 + 0.2, 1e-300, np.nan],
        "slopes.step": [0, 7],
        "slopes.time": [0.0, 3.5],
        "slopes.value.measured": [[1.0, 2.0], [5.0, 6.0]],
        "slopes.value.predicted": [[3.0, 4.0], [7.0, 8.0]],
        "kernel.step": [0, 7],
        "kernel.time": [0.0, 3.5],
        "kernel.value": [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]],
    }
    assert arrays.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(arrays[name], values)
    assert arrays["loss.step"].dtype == np.int64


@pytest.mark.usefixtures("_blocks")
def test_a_csv_has_a_row_for_each_number() -> None:
    header, *rows = list(csv.reader(io.StringIO(written("csv").decode())))
    assert header == ["quantity", "step", "time", "i0", "i1", "value"]
    assert rows[:3] == [
        ["loss", "0", "0.0", "", "", "0.30000000000000004"],
        ["loss", "1", "0.5", "", "", "1e-300"],
        ["loss", "7", "3.5", "", "", ""],
    ]
    slopes = [row for row in rows if row[0] == "slopes.predicted"]
    assert slopes == [
        ["slopes.predicted", "0", "0.0", "0", "", "3.0"],
        ["slopes.predicted", "0", "0.0", "1", "", "4.0"],
        ["slopes.predicted", "7", "3.5", "0", "", "7.0"],
        ["slopes.predicted", "7", "3.5", "1", "", "8.0"],
    ]
    assert ["kernel", "7", "3.5", "1", "0", "7.0"] in rows
    assert len(rows) == 3 + 2 * 4 + 2 * 4


@pytest.mark.usefixtures("_blocks")
def test_json_has_what_is_shown_of_a_run() -> None:
    assert json.loads(written("json")) == {
        "id": "a",
        "spec": {"seed": 0},
        "series": {
            "loss": {"step": [0, 1, 7], "time": [0.0, 0.5, 3.5], "value": [0.1 + 0.2, 1e-300, None]},
            "slopes": {
                "step": [0, 7],
                "time": [0.0, 3.5],
                "value": {"measured": [[1.0, 2.0], [5.0, 6.0]], "predicted": [[3.0, 4.0], [7.0, 8.0]]},
            },
            "kernel": {
                "step": [0, 7],
                "time": [0.0, 3.5],
                "value": [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]],
            },
        },
    }


@pytest.mark.parametrize("form", FORMATS)
def test_a_run_without_points_is_a_file_too(form: str) -> None:
    with Recorded() as recorded:
        data = b"".join(FORMATS[form].write(recorded, {"id": "a"}, {}))
    assert data


def test_time_without_steps() -> None:
    with Recorded() as recorded:
        recorded.add({"step": None, "time": 0.5, "loss": 1.0})
        data = b"".join(FORMATS["npz"].write(recorded, {}, {}))
        assert b"\nloss,,0.5,1.0\n" in b"".join(FORMATS["csv"].write(recorded, {}, {}))
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        assert np.isnan(found["loss.step"]).all()
        assert found["loss.value"].tolist() == [1.0]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose points carry arrays that are files."""
    server = Server(tmp_path_factory.mktemp("large"), "double", NTK_TEST_LARGE="30")
    server.start()
    yield server
    server.close()


def test_a_runs_export_has_all_that_it_recorded(large: Server) -> None:
    run_id = large.create(changed(RUN, "/training/steps", 20))
    points = [event for event in large.events(run_id) if event["kind"] == "point"]
    answer = large.client.get(f"/runs/{run_id}/export")
    assert answer.headers["content-type"] == "application/x-npz"
    assert f"run-{run_id}.npz" in answer.headers["content-disposition"]
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    assert len(points) == 21
    assert arrays["loss.step"].tolist() == [point["step"] for point in points]
    assert arrays["loss.value"].tolist() == [point["loss"] for point in points]
    w = -arrays["slopes.value.measured"]
    large_array = np.einsum("ti,tj->tij", np.tile(w, 30), np.tile(w, 30))
    np.testing.assert_array_equal(arrays["kernel.value"], large_array)
    shown = large.show(run_id)
    assert json.loads(str(arrays["spec"])) == shown["spec"]
    about = json.loads(str(arrays["about"]))
    assert {name: about[name] for name in ("id", "outcome", "detail")} == {
        name: shown[name] for name in ("id", "outcome", "detail")
    }


def test_no_point_is_left_out(double: Server) -> None:
    run_id = double.create(changed(RUN, "/training/steps", 2500))
    losses = [event["loss"] for event in double.events(run_id) if event["kind"] == "point"]
    assert len(losses) == 2501
    shown = double.show(run_id)["series"]["loss"]
    assert shown["thinned"]
    answer = double.client.get(f"/runs/{run_id}/export", params={"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [float(row["value"]) for row in rows if row["quantity"] == "loss"] == losses


@pytest.mark.usefixtures("_blocks")
def test_parquet_has_the_rows_of_the_csv() -> None:
    files = pytest.importorskip("pyarrow.parquet")
    table = files.read_table(io.BytesIO(written("parquet")))
    assert json.loads(table.schema.metadata[b"about"]) == {"about": {"id": "a"}, "spec": {"seed": 0}}
    rows = [
        {name: value or "" for name, value in row.items()}
        for row in csv.DictReader(io.StringIO(written("csv").decode()))
    ]
    assert table.num_rows == len(rows)
    for found, row in zip(table.to_pylist(), rows, strict=True):
        plain = {name: "" if value is None else str(value) for name, value in found.items()}
        assert plain == row


def test_what_is_there_of_a_run_that_goes_on(tmp_path: Path) -> None:
    server = Server(tmp_path, "double", NTK_TEST_PACE="0.01", NTK_SEGMENT_SECONDS="0.05")
    server.start()
    try:
        run_id = server.create(changed(RUN, "/training/steps", 10**5))
        server.reach(run_id, 10)
        found = server.client.get(f"/runs/{run_id}/export", params={"format": "json"}).json()
        assert found["status"] == "running"
        steps = found["series"]["loss"]["step"]
        assert steps == list(range(len(steps)))
        assert len(steps) >= 10
    finally:
        server.close()


def test_what_cannot_be_exported(double: Server) -> None:
    run_id = double.create(changed(RUN, "/training/steps", 2))
    eventually(lambda: double.show(run_id)["status"] == "succeeded")
    assert double.client.get(f"/runs/{run_id}/export", params={"format": "xls"}).status_code == 422
    assert double.client.get("/runs/nothing/export").status_code == 404
