"""Data sets: added, named in requests, and what is no data set."""

from __future__ import annotations

import contextlib
import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkengine.datasets import file_of
from ntkengine.errors import EngineError
from service.encoding import Message
from service.runs.dataset_files import CSV, NPZ, keep
from service.store.backup import backup, restore
from tests.service.examples import KERNEL, MODEL, RUN, changed
from tests.service.guarded import Guarded
from tests.service.problems import LYING_FILE, check_problem
from tests.service.server import Server, eventually

ARROW = "application/vnd.apache.arrow.stream"
LINEAR = {"layers": [{"kind": "dense"}]}  # theta = x . x' / d
TABLE = "a,b,label\n" + "".join(f"{i},{-i / 4},{i % 3}\n" for i in range(1, 10))
ROWS = np.array([[i, -i / 4] for i in range(1, 10)])


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def add(
    client: httpx.Client, content: bytes | str, media: str = CSV, /, name: str = "table", **query: Any
) -> httpx.Response:
    headers = {"Content-Type": media}
    return client.post("/datasets", params={"name": name, **query}, content=content, headers=headers)


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "dataset", "name": name, **more}


def gram(client: httpx.Client, x: Any) -> Any:
    answer = client.post("/kernel", json={**KERNEL, "model": LINEAR, "x1": x})
    assert answer.status_code == 200, answer.text
    return answer.json()["kernels"]["ntk"]


def test_a_table_is_used_by_kernels_and_runs_until_it_is_removed(engine: Server) -> None:
    client = engine.client
    added = add(client, TABLE, y="label", one_hot="true", test_rows=3)
    assert added.status_code == 201, added.text
    assert added.json()["splits"] == {"train": {"x": [6, 2], "y": [6, 3]}, "test": {"x": [3, 2], "y": [3, 3]}}
    assert client.get(added.headers["location"]).json() == added.json()
    assert added.json() in client.get("/datasets").json()["datasets"]
    assert add(client, TABLE, y="label", one_hot="true", test_rows=3).json() == added.json()

    np.testing.assert_allclose(gram(client, named("table")), ROWS[:6] @ ROWS[:6].T / 2, rtol=1e-14)
    test = named("table", split="test", limit=2)
    np.testing.assert_allclose(gram(client, test), ROWS[6:8] @ ROWS[6:8].T / 2, rtol=1e-14)

    body = changed(changed(RUN, "/model/layers/2/width", 3), "/data", {p: named("table") for p in ("x", "y")})
    run = engine.create(body)
    eventually(lambda: engine.show(run)["status"] == "succeeded")
    shown = engine.show(run)
    assert shown["spec"]["data"]["x"]["name"] == added.json()["reference"]
    assert np.shape(shown["series"]["outputs"]["value"][0]) == (6, 3)

    assert client.delete("/datasets/table").status_code == 204
    check_problem(client.get("/datasets/table"), 404)
    gone = check_problem(client.post("/runs", json=body), 422)
    assert {error["pointer"] for error in gone["errors"]} == {"/data/x/name"}


def test_targets_are_what_they_were(tmp_path: Path) -> None:
    told, at = kept(tmp_path, TABLE.encode(), CSV, y=["label"], one_hot=True)
    labels = [int(line.split(",")[2]) for line in TABLE.split()[1:]]
    expected = [[2 / 3 if k == label else -1 / 3 for k in range(3)] for label in labels]
    np.testing.assert_allclose(np.load(file_of(at, "train", "y")), expected, rtol=1e-15)
    assert tuple(told["splits"]["train"]["x"]) == (9, 2)


def test_images_of_an_archive(double: Server) -> None:
    arrays = {
        "x": np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3),
        "y": np.eye(4),
        "x_test": np.ones((2, 2, 2, 3)),
    }
    added = add(double.client, npz(**arrays), NPZ, name="images")
    assert added.status_code == 201, added.text
    assert added.json()["splits"] == {"train": {"x": [4, 2, 2, 3], "y": [4, 4]}, "test": {"x": [2, 2, 2, 3]}}


def test_arrow_in_and_out(engine: Server) -> None:
    pa = pytest.importorskip("pyarrow")
    rows = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 2)
    table = pa.table({"x": rows, "y": pa.array(range(9))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    added = add(engine.client, sink.getvalue().to_pybytes(), ARROW, name="arrow")
    assert added.status_code == 201, added.text
    assert added.json()["splits"] == {"train": {"x": [9, 2], "y": [9, 1]}}
    body = {**KERNEL, "model": LINEAR, "x1": named("arrow"), "x2": named("arrow", limit=4)}
    answer = engine.client.post("/kernel", json=body, headers={"Accept": ARROW})
    assert (answer.status_code, answer.headers["content-type"]) == (200, ARROW)
    found = pa.ipc.open_stream(answer.content).read_all()
    assert b"closed_form" in found.schema.metadata[b"about"]
    ntk = found["ntk"].combine_chunks()
    values = (ntk.chunk(0) if hasattr(ntk, "chunk") else ntk).to_numpy_ndarray()
    np.testing.assert_allclose(values, ROWS @ ROWS[:4].T / 2, rtol=1e-14)


def kept(directory: Path, content: bytes, media: str, **more: Any) -> tuple[dict[str, Any], Path]:
    """What the computing process makes of a file."""
    (directory / "sent").write_bytes(content)
    how = {"y": [], "one_hot": False, "test_rows": 0, "most_bytes": 2**20, **more}
    return keep(Message({"path": str(directory / "sent"), "media": media, **how})).header, directory


def bomb() -> bytes:
    """A few kilobytes that unpack to 64 MiB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(64 * 2**20))
    return file.getvalue()


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    content = bomb()
    assert len(content) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(EngineError, match="too large"):
            kept(tmp_path, content, NPZ)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def pickled() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open("x.npy", "w") as member:
        np.save(member, np.array([{}], dtype=object), allow_pickle=True)
    return file.getvalue()


def outside() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../x.npy", b"")
    return file.getvalue()


def lying() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", LYING_FILE)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "media", "said"),
    [
        (b"", CSV, "no rows"),
        (b"1.0,2.0\n3.0,4.0\n", CSV, "first line has numbers"),
        (b"a,a\n1,2\n", CSV, "one name"),
        (b"a,b\n1,2\n3\n", CSV, "no table"),
        (b"a,b\n1,x\n", CSV, "no table"),
        (b"a,b,c\n1,2\n", CSV, "3 names"),
        (b"a,b\n1,nan\n", CSV, "not finite"),
        (b"a,b\n1,1e999\n", CSV, "not finite"),
        (b"\xff\xfe\x00", CSV, "UTF-8"),
        (b"a,b\n", CSV, "no rows"),
        (b"PK\x03\x04 no archive", NPZ, "no .npz"),
        (bomb()[:-200], NPZ, "no .npz"),
        (pickled(), NPZ, "no array"),
        (outside(), NPZ, "archive has"),
        (lying(), NPZ, "no array"),
        (npz(x=np.ones(3)), NPZ, "shape"),
        (npz(x=np.ones((0, 3))), NPZ, "shape"),
        (npz(x=np.array([["a"]])), NPZ, "not numbers"),
        (npz(x=np.ones((2, 1)), y=np.ones((3, 1))), NPZ, "2 rows"),
        (npz(x=np.ones((2, 1)), z=np.ones((3, 1))), NPZ, "archive has"),
        (npz(x=np.ones((400, 400), np.int8)), NPZ, "too large"),
        (b"ARROW1", ARROW, "Arrow"),
    ],
)
def test_what_is_no_data_set(tmp_path: Path, content: bytes, media: str, said: str) -> None:
    with pytest.raises(EngineError, match=said) as found:
        kept(tmp_path, content, media)
    assert found.value.hint or found.value.category == "too_costly"


@pytest.mark.parametrize(
    ("query", "media", "status"),
    [
        ({"name": "../../etc"}, CSV, 422),
        ({"name": "a~b"}, CSV, 422),
        ({"name": "digits"}, CSV, 409),
        ({"y": "nothing"}, CSV, 422),
        ({"one_hot": "true"}, CSV, 422),
        ({"test_rows": 9}, CSV, 422),
        ({"test_rows": -1}, CSV, 422),
        ({}, NPZ, 422),
        ({}, "application/octet-stream", 415),
        ({}, "application/json", 415),
    ],
)
def test_what_cannot_be_added(double: Server, query: dict[str, Any], media: str, status: int) -> None:
    check_problem(add(double.client, TABLE, media, **{"name": "bad", **query}), status)
    assert "bad" not in double.client.get("/datasets").text


@pytest.mark.parametrize("name", ["../digits", "nothing", "", "a/b", "x" * 97, "%2e%2e"])
def test_names_that_lead_nowhere(double: Server, name: str) -> None:
    problem = check_problem(double.client.post("/kernel", json=changed(KERNEL, "/x1", named(name))), 422)
    assert problem["errors"][0]["pointer"].startswith("/x1")


def test_keys_have_data_sets_of_their_own(guarded: Guarded) -> None:
    ann, ben = guarded.as_("ann"), guarded.as_("ben")
    hers = add(ann, TABLE, name="mine").json()
    for secret in ("mine", hers["reference"]):
        check_problem(ben.get(f"/datasets/{secret}"), 404)
        check_problem(ben.delete(f"/datasets/{secret}"), 404)
        check_problem(
            ben.post("/kernel", json={"model": MODEL, "x1": named(secret), "of": {"kind": "infinite"}}), 422
        )
    his = add(ben, TABLE, name="mine").json()
    assert his["reference"] != hers["reference"]
    check_problem(add(ben, TABLE + "1,2,3\n", name="mine"), 409)
    check_problem(add(guarded.as_("reader"), TABLE, name="mine"), 403)
    assert ben.delete("/datasets/mine").status_code == 204
    assert ann.get("/datasets/mine").json() == hers


def test_limits(tmp_path: Path) -> None:
    server = Server(tmp_path, "double", NTK_MAX_DATASET_BYTES="2000", NTK_DATASET_BYTES_PER_KEY="3000")
    server.start()
    try:
        check_problem(add(server.client, "a\n" + "1\n" * 1000), 413)
        check_problem(add(server.client, npz(x=np.ones((300, 1))), NPZ), 422)
        assert add(server.client, "a\n" + "1\n" * 200, name="one").status_code == 201
        refused = add(server.client, "a\n" + "1\n" * 200, name="two")
        assert check_problem(refused, 429)["limit"] == {"disk_bytes": 3000}
        assert server.client.get("/usage").json()["dataset_bytes"]["limit"] == 3000
        assert [path.name[:4] for path in (tmp_path / "data/datasets").iterdir()] == ["one~"]
        backup(tmp_path / "data", tmp_path / "data/ntk.sqlite", tmp_path / "copy")
        restore(tmp_path / "copy", tmp_path / "again", tmp_path / "again/ntk.sqlite")
        (there,) = (tmp_path / "again/datasets").iterdir()
        assert np.load(file_of(there, "train", "x")).shape == (200, 1)
    finally:
        server.close()


SEEDS = {
    CSV: TABLE.encode(),
    NPZ: npz(x=np.ones((3, 2)), y=np.ones((3, 1), np.int8)),
}


def fuzzed(media: str, directory: Path, cuts: list[tuple[float, bytes]]) -> None:
    """A file of which pieces were replaced is read, or refused in words: nothing else is raised."""
    content = bytearray(SEEDS[media])
    for place, piece in cuts:
        start = int(place * len(content))
        content[start : start + len(piece)] = piece
    with contextlib.suppress(EngineError):
        kept(directory, bytes(content), media)


CUTS = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), min_size=1, max_size=5)


@pytest.mark.parametrize("media", SEEDS)
def test_damaged_files(media: str, tmp_path: Path) -> None:
    @given(cuts=CUTS)
    @settings(max_examples=100, derandomize=True, database=None, deadline=None)
    def is_refused(cuts: list[tuple[float, bytes]]) -> None:
        fuzzed(media, tmp_path, cuts)

    is_refused()


@pytest.mark.verify
@pytest.mark.parametrize("media", SEEDS)
def test_damaged_files_at_length(media: str, tmp_path: Path) -> None:
    @given(cuts=CUTS)
    @settings(max_examples=20_000, database=None, deadline=None)
    def is_refused(cuts: list[tuple[float, bytes]]) -> None:
        fuzzed(media, tmp_path, cuts)

    is_refused()
