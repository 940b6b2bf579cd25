"""Kernels as jobs, by HTTP on a real server: made, read while they are computed, found again, killed."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import zarr

from ntkengine.kernels import KernelSpec, compute_kernel
from ntkengine.spec import from_jsonable
from service.runs.slices import KEY
from tests.service.problems import check_problem
from tests.service.server import JSONObject, Server, eventually

NPY = {"Accept": "application/x-npy"}
LAYERS = [{"kind": "dense", "b_std": 0.3}, {"kind": "relu"}, {"kind": "dense", "width": 1}]
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose synchronous limit is small, and whose segments are short."""
    settings = {"NTK_SEGMENT_SECONDS": "0.1", "NTK_MAX_POINTS": "300", "NTK_CONCURRENT_RUNS": "1"}
    server = Server(tmp_path_factory.mktemp("large"), "double", **settings)
    server.start()
    yield server
    server.close()


def request(n: int, *, seed: int = 0, repeats: int = 1, **more: Any) -> JSONObject:
    """A dense network on normal inputs, float32; repeats make it slower."""
    x = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    layers = [*LAYERS[:2] * repeats, LAYERS[2]]
    of = {"kind": "infinite", "get": ["ntk"]}
    return {"model": {"layers": layers}, "x1": x.tolist(), "of": of, "dtype": "float32", **more}


def post(server: Server, body: JSONObject, **headers: str) -> str:
    answer = server.client.post("/kernel", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def show(server: Server, path: str) -> JSONObject:
    found: JSONObject = server.client.get(path).json()
    return found


def finished(server: Server, path: str) -> JSONObject:
    def ended() -> JSONObject | None:
        found = show(server, path)
        return found if found["status"] not in {"queued", "running"} else None

    return eventually(ended, patience=90)


def matrix(server: Server, path: str, **query: str) -> Any:
    answer = server.client.get(f"{path}/data", params=query, headers=NPY)
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)
    return np.load(io.BytesIO(answer.content))


def expected(body: JSONObject) -> Any:
    """The same kernel, all of it in memory at once."""
    return compute_kernel(from_jsonable(KernelSpec, body)).kernels["ntk"]


def chunks(server: Server, path: str) -> dict[str, tuple[int, int]]:
    """The chunks of a job on disk; each writing of one makes a new file, and so another value."""
    folder = server.log.parent / "data" / "runs" / Path(path).name / "gram" / "gram.zarr" / "ntk"
    return {each.name: (each.stat().st_ino, each.stat().st_mtime_ns) for each in folder.glob("c.*")}


@pytest.fixture(scope="module")
def small(server: Server) -> tuple[str, JSONObject]:
    """A job that has ended, and what was asked for: not one over the limit, but one that was preferred."""
    body = request(120)
    path = post(server, body, **ASYNC)
    assert finished(server, path)["status"] == "succeeded"
    return path, body


def test_all_that_is_told_of_a_finished_kernel(server: Server, small: tuple[str, JSONObject]) -> None:
    job = show(server, small[0])
    assert job["kind"] == "kernel"
    assert job["shape"] == [120, 120]
    assert job["progress"]["tiles"]["done"] == job["progress"]["tiles"]["total"] == 1
    assert job["result"]["method"]["kind"] == "closed_form"
    assert job["result"]["scaling"]["constant_in_training"] is True
    eigenvalues = np.linalg.eigvalsh(expected(small[1]).astype(np.float64))
    assert job["result"]["diagnostics"]["lambda_min"] == pytest.approx(eigenvalues[0], rel=1e-3)
    assert job["plan"]["disk_bytes"] == 120 * 120 * 4


def test_slices(server: Server, small: tuple[str, JSONObject]) -> None:
    path, body = small
    whole = matrix(server, path)
    np.testing.assert_allclose(whole, expected(body), rtol=1e-5)
    assert np.array_equal(matrix(server, path, rows="3:50", cols="110:"), whole[3:50, 110:])
    part = server.client.get(f"{path}/data", params={"rows": "3:5", "cols": ":2"}).json()
    assert part["value"] == whole[3:5, :2].tolist()
    assert (part["rows"], part["cols"]) == ([3, 5], [0, 2])


@pytest.mark.parametrize("rows", ["5:3", "0:121", "-1:3", "1:2:3", "a:b", "7", "3:3", "9" * 40 + ":"])
def test_bad_slices(server: Server, small: tuple[str, JSONObject], rows: str) -> None:
    problem = check_problem(server.client.get(f"{small[0]}/data", params={"rows": rows}), 422)
    assert problem["errors"][0]["pointer"] == "rows"


def test_a_kernel_that_was_not_asked_for(server: Server, small: tuple[str, JSONObject]) -> None:
    check_problem(server.client.get(f"{small[0]}/data", params={"kernel": "nngp"}), 422)


def test_tags(server: Server, small: tuple[str, JSONObject]) -> None:
    address = f"{small[0]}/data?rows=0:5"
    first = server.client.get(address, headers=NPY)
    again = server.client.get(address, headers={**NPY, "If-None-Match": first.headers["etag"]})
    other = server.client.get(f"{small[0]}/data?rows=0:6", headers=NPY)
    assert (again.status_code, again.content) == (304, b"")
    assert other.headers["etag"] != first.headers["etag"]


def test_the_same_request_is_the_same_job(server: Server, small: tuple[str, JSONObject]) -> None:
    path, body = small
    answer = server.client.post("/kernel", json=body, headers=ASYNC)
    assert answer.headers["location"] == path
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json()["status"] == "succeeded"
    assert post(server, request(120, seed=1), **ASYNC) != path


def test_zarr(server: Server, small: tuple[str, JSONObject]) -> None:
    """Its chunks and metadata, fetched by their keys, are a store that zarr reads."""
    path, _ = small
    store: dict[str, Any] = {}
    for key in ("zarr.json", "ntk/zarr.json", "ntk/c.0.0"):
        answer = server.client.get(f"{path}/zarr/{key}")
        store[key] = zarr.core.buffer.cpu.Buffer.from_bytes(answer.content)
    group = zarr.open_group(zarr.storage.MemoryStore(store), mode="r")
    assert np.array_equal(np.asarray(group["ntk"]), matrix(server, path))


@pytest.mark.parametrize(
    "key",
    ["ntk/../../tiles", "ntk%2F..%2F..%2Ftiles", "..%2Fpreview.npz", "c.0.0", "ntk/c.9.9", "ntk/.x.partial"],
)
def test_nothing_else_is_read_through_the_store(
    server: Server, small: tuple[str, JSONObject], key: str
) -> None:
    assert KEY.fullmatch(key) is None or key == "ntk/c.9.9"
    check_problem(server.client.get(f"{small[0]}/zarr/{key}"), 404)


def test_preview_is_made_of_means(server: Server) -> None:
    body = request(700, seed=3)
    path = post(server, body)
    assert finished(server, path)["status"] == "succeeded"
    whole = matrix(server, path).astype(np.float64)
    image = np.array(server.client.get(f"{path}/preview").json()["value"])
    assert image.shape == (256, 256)
    edges = -(-np.arange(257) * 700 // 256)  # a row i is on pixel floor(256 i / 700)
    for i, j in ((0, 0), (17, 200), (255, 255), (128, 3)):
        block = whole[edges[i] : edges[i + 1], edges[j] : edges[j + 1]]
        assert image[i, j] == pytest.approx(block.mean(), rel=1e-12)


def test_empirical_of_given_weights(server: Server) -> None:
    layers = [{"kind": "dense", "width": 3}, {"kind": "tanh"}, {"kind": "dense", "width": 2}]
    weights = {"layers.0.W": np.ones((5, 3)).tolist(), "layers.2.W": np.eye(3)[:, :2].tolist()}
    of = {"kind": "empirical", "weights": weights, "outputs": "full"}
    body = {**request(301), "model": {"layers": layers}, "of": of, "dtype": "float64"}
    path = post(server, body)
    assert finished(server, path)["status"] == "succeeded", show(server, path)["error"]
    assert show(server, path)["shape"] == [301, 301, 4]
    np.testing.assert_allclose(matrix(server, path, rows="7:9"), expected(body)[7:9], rtol=1e-12)


def test_what_cannot_be_a_job(server: Server) -> None:
    monte_carlo = {"kind": "monte_carlo", "get": ["ntk"], "max_draws": 2}
    body = request(301, of=monte_carlo)
    body["model"]["layers"][0]["width"] = 4
    problem = check_problem(server.client.post("/kernel", json=body), 422)
    assert problem["type"].endswith("too-costly")


def test_numbers_out_of_range_fail_the_job(server: Server) -> None:
    body = request(301, seed=4)
    body["model"]["output_scale"] = 1e30
    job = finished(server, post(server, body))
    assert (job["status"], job["error"]["category"]) == ("failed", "numerical")
    assert post(server, body) != job["links"]["self"]  # a failure does not stand for the content


def test_estimates(server: Server) -> None:
    at_once, as_job = (server.client.post("/kernel/estimate", json=request(n)).json() for n in (100, 400))
    assert (at_once["answered"], as_job["answered"]) == ("at once", "as a job")
    assert (at_once["disk_bytes"], as_job["disk_bytes"]) == (0, 400 * 400 * 4)
    assert as_job["flops"] == pytest.approx(16 * at_once["flops"])
    assert as_job["seconds"] > at_once["seconds"] > 0


def test_addresses_of_other_kinds(server: Server, small: tuple[str, JSONObject]) -> None:
    job_id = Path(small[0]).name
    for address in (f"/runs/{job_id}", f"/runs/{job_id}/events", "/kernels/unknown", "/kernels/unknown/data"):
        check_problem(server.client.get(address), 404)
    assert job_id in [job["id"] for job in server.client.get("/kernels").json()["kernels"]]
    assert job_id not in [job["id"] for job in server.client.get("/runs").json()["runs"]]


SLOW = {"repeats": 12}  # some seconds, of which the first tiles are a small part


def some_tiles(server: Server, path: str) -> dict[str, tuple[int, int]]:
    """The chunks that are there, once some are; then the job still runs."""
    eventually(lambda: (show(server, path)["progress"]["tiles"] or {"done": 0})["done"] >= 2)
    found = chunks(server, path)
    assert show(server, path)["status"] == "running"
    return found


def test_slices_while_it_is_computed_and_cancel(server: Server) -> None:
    path = post(server, request(5000, seed=5, **SLOW))
    some_tiles(server, path)
    tiles = show(server, path)["progress"]["tiles"]
    side = tiles["shape"][0]
    early = matrix(server, path, rows="0:3", cols=f"0:{side}")
    problem = check_problem(server.client.get(f"{path}/data", params={"rows": "4999:5000"}), 409)
    assert [0, side] in problem["ready"] or problem["ready"] == []
    image = server.client.get(f"{path}/preview").json()["value"]
    assert image[0][0] is not None
    assert image[255][255] is None
    assert server.client.post(f"{path}/cancel").json()["status"] == "cancelled"
    assert np.array_equal(matrix(server, path, rows="0:3", cols=f"0:{side}"), early)
    assert not np.isnan(early).any()
    events = list(server.events_of(path))
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert events[-1]["kind"] == "cancelled"
    assert server.client.delete(path).status_code == 204
    assert chunks(server, path) == {}
    check_problem(server.client.get(path), 404)


@pytest.mark.faults
@pytest.mark.long
def test_killed_process_and_killed_server(server: Server) -> None:
    """Tiles that were there are not written again, and the matrix is an undisturbed one, bit for bit."""
    body = request(4000, seed=6, **SLOW)
    path = post(server, body)
    some_tiles(server, path)
    before = complete(server, path)
    os.kill(server.process_of(Path(path).name), signal.SIGKILL)
    eventually(lambda: show(server, path)["progress"]["crashes"] == 1)
    eventually(lambda: len(chunks(server, path)) > len(before) + 1)
    middle = complete(server, path)
    server.kill()
    server.start()
    job = finished(server, path)
    after = chunks(server, path)
    assert job["status"] == "succeeded"
    kept = {**before, **middle}
    assert {name: after[name] for name in kept} == kept
    disturbed = matrix(server, path)
    assert server.client.delete(path).status_code == 204
    undisturbed = post(server, body)
    assert undisturbed != path
    assert finished(server, undisturbed)["result"]["sha256"] == job["result"]["sha256"]
    assert np.array_equal(matrix(server, undisturbed), disturbed)


def complete(server: Server, path: str) -> dict[str, tuple[int, int]]:
    """The chunks of the tiles that are recorded as done: others may be written again."""
    folder = server.log.parent / "data" / "runs" / Path(path).name / "gram"
    grid = json.loads((folder / "gram.zarr" / "zarr.json").read_text())["attributes"]["gram"]["grid"]
    done = np.fromfile(folder / "tiles", dtype=np.uint8).reshape(*grid, 32).any(axis=2)
    names = {f"c.{a}.{b}" for i, j in np.argwhere(done) for a, b in ((i, j), (j, i))}
    return {name: value for name, value in chunks(server, path).items() if name in names}


def test_too_little_room(tmp_path: Path) -> None:
    """The disk has no room for more than there is: 200,000 points squared are over any limit of a test."""
    server = Server(tmp_path, "double", NTK_MAX_KERNEL_DISK_BYTES=str(10**18), NTK_MAX_JOB_FLOPS="1e30")
    server.start()
    x = [[float(i % 7)] for i in range(200_000)]
    body = {
        **request(2),
        "x1": x,
        "model": {"layers": LAYERS},
        "of": {"kind": "infinite"},
        "dtype": "float64",
    }
    answer: httpx.Response = server.client.post("/kernel", json=body)
    problem = check_problem(answer, 507)
    assert problem["estimate"]["disk_bytes"] == 2 * 8 * 200_000**2
    server.close()
