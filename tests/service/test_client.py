"""The Python client against real servers, over connections that are cut."""

from __future__ import annotations

import asyncio
import io
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ntkengine import Dense, Model, Relu, RunSpec
from ntkengine.experiments import EXPERIMENTS
from ntkengine.influence import InfluenceSpec, influence
from ntkengine.kernels import Empirical, KernelSpec, compute_kernel
from ntkengine.spec import from_jsonable, to_jsonable
from service.client import AsyncClient, Client, ConnectionLost, Patience, ProblemError
from service.client.operations import Wait, exchange
from service.client.requests import Request, encode
from tests.service.server import Server

MODEL = Model(layers=(Dense(width=8, b_std=0.5), Relu(), Dense(width=1)))
X = np.random.default_rng(0).normal(size=(5, 3))
QUICK = Patience(tries=4, stream_seconds=20.0, first_delay=0.02, longest_delay=0.1)


def spec(steps: int = 20, seed: int = 0) -> dict[str, Any]:
    """A run of the double."""
    training = {"kind": "gradient_descent", "learning_rate": 0.1, "steps": steps}
    return {"model": MODEL, "data": {"x": X, "y": X[:, :1]}, "training": training, "seed": seed}


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@contextmanager
def cut_after(port: int, *limits: int) -> Iterator[str]:
    """The address of a proxy that cuts its n-th connection after so many bytes of answer, later ones not."""
    left = list(limits)

    def relay(near: socket.socket) -> None:
        limit = left.pop(0) if left else None
        with near, socket.create_connection(("127.0.0.1", port)) as far:
            threading.Thread(target=pour, args=(near, far, None), daemon=True).start()
            pour(far, near, limit)
            near.shutdown(socket.SHUT_RDWR)  # closing waits for the thread that reads

    def pour(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data[:limit])
                limit = None if limit is None else limit - len(data)
                if limit is not None and limit <= 0:
                    return
        except OSError:  # the other direction ended
            return

    def listen() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=relay, args=(near,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    assert not left, "fewer connections were made than were to be cut"


def test_imports_no_torch() -> None:
    program = "import sys, service.client; print('torch' in sys.modules, 'fastapi' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout == "False False\n"


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda each: str(each.name))
def test_specs_are_encoded_as_the_engine_encodes_them(experiment: Any) -> None:
    told, files = encode(experiment.spec, (), "nowhere")
    assert to_jsonable(from_jsonable(RunSpec, told)) == to_jsonable(experiment.spec)
    assert not files


def test_a_kernel_is_the_engines(engine: Server) -> None:
    weights = {"layers.0.W": np.ones((3, 8)), "layers.0.b": np.arange(8.0), "layers.2.W": np.ones((8, 1))}
    with Client(address(engine)) as client:
        found = client.kernel(MODEL, X, X[:2], {"kind": "empirical", "weights": weights})
        of = Empirical(weights=weights)
        expected = compute_kernel(KernelSpec(model=MODEL, x1=X, x2=X[:2], of=of))
        np.testing.assert_array_equal(found.ntk, expected.kernels["ntk"])
        assert list(found.arrays) == ["ntk"]
        assert found.facts["method"] == expected.method
        assert found.facts["diagnostics"] == expected.diagnostics
        assert found.warnings == ()
        both = client.kernel(to_jsonable(MODEL), X.tolist())
        np.testing.assert_array_equal(
            both.nngp, compute_kernel(KernelSpec(model=MODEL, x1=X)).kernels["nngp"]
        )


def test_a_large_kernel_is_a_job(engine: Server) -> None:
    with Client(address(engine)) as client:
        whole = client.kernel(MODEL, X)
        job = client.kernel_job(MODEL, X)
        assert job.wait().status == "succeeded"
        np.testing.assert_array_equal(job.data(slice(1, 3), slice(None, 4)), whole.ntk[1:3, :4])
        np.testing.assert_array_equal(job.data(kernel="nngp"), whole.nngp)
        job.delete()
        with pytest.raises(ProblemError, match="no") as refused:
            job.status()
        assert refused.value.status == 404


def test_data_sets(engine: Server, tmp_path: Path) -> None:
    """Added as arrays and as a file, named in the place of arrays, and removed."""
    table = tmp_path / "table.csv"
    table.write_text("a,b,y\n1,0,0\n0,2,1\n3,1,0\n")
    with Client(address(engine), patience=QUICK) as client:
        added = client.add_dataset("ours", {"x": X, "y": X[:, :1]})
        assert added.splits == {"train": {"x": X.shape, "y": (len(X), 1)}}
        labelled = client.add_dataset("table", table, y=["y"], one_hot=True, test_rows=1)
        assert labelled.splits["test"] == {"x": (1, 2), "y": (1, 2)}
        assert [each.name for each in client.datasets()] == ["ours", "table"]
        named = client.kernel(MODEL, {"kind": "dataset", "name": "ours"})
        np.testing.assert_array_equal(named.ntk, client.kernel(MODEL, X).ntk)
        with pytest.raises(ProblemError, match="label"):
            client.add_dataset("wrong", table, y=["label"])
        with pytest.raises(ValueError, match=r"\.csv"):
            client.add_dataset("wrong", tmp_path / "table.xls")
        for name in ("ours", "table"):
            client.remove_dataset(name)
        assert client.datasets() == ()


def test_a_prediction(engine: Server) -> None:
    data = {"x": X, "y": X[:, :1], "x_test": X[:2]}
    training = {"kind": "gradient_flow", "times": [0.0, "inf"]}
    with Client(address(engine)) as client:
        found = client.predict({"model": MODEL, "data": data, "training": training})
    assert found.times.tolist() == [0.0, np.inf]
    np.testing.assert_allclose(found.arrays["mean_train"][-1], X[:, :1], atol=1e-8)  # interpolation
    np.testing.assert_allclose(found.arrays["mean_test"][-1], X[:2, :1], atol=1e-8)
    assert found.facts["diagnostics"]["rank"] == len(X)
    assert found.steps is None
    assert "times" not in found.arrays
    assert found.warnings == ()


def test_one_more_point(engine: Server) -> None:
    model = Model(layers=(Dense(width=64, b_std=0.5), Relu(), Dense(width=1)))
    new = {"x_new": np.array([[1.0]]), "y_new": np.array([[0.5]]), "points": np.linspace(-1, 1, 5)[:, None]}
    data = {"x": np.array([[-1.0], [0.0]]), "y": np.array([[0.5], [0.0]])}
    asked: dict[str, Any] = {
        "model": model,
        "data": data,
        "training": {"kind": "gradient_flow", "t_end": 5.0},
    } | new
    with Client(address(engine)) as client:
        found = client.influence(asked)
    expected = influence(InfluenceSpec(**asked))
    for name in ("before", "after", "moved", "predicted", "weight"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)
    assert found.relative_error == pytest.approx(expected.relative_error)


def test_a_run_from_its_start_to_its_removal(double: Server) -> None:
    with Client(address(double), patience=QUICK) as client:
        run = client.run(spec(steps=30))
        events = list(run.events())
        assert [event.seq for event in events] == list(range(len(events)))
        assert [event.is_final for event in events] == [False] * (len(events) - 1) + [True]
        losses = [event["loss"] for event in events if event.kind == "point"]
        assert (run.wait().status, run.wait().outcome) == ("succeeded", "stopped")
        series = run.series("loss", "slopes")
        assert series["loss"].value.tolist() == losses
        assert series["loss"].step.tolist() == list(range(31))
        assert series["slopes"].value["measured"].shape == (31, 3)
        assert run.series("loss", every=10)["loss"].step.tolist() == [0, 10, 20, 30]
        assert list(run.events(after=events[-3].seq)) == events[-2:]
        assert list(run.events(after=events[-1].seq)) == []
        run.delete()
        with pytest.raises(ProblemError) as refused:
            list(run.events())
        assert refused.value.status == 404


def test_all_runs_page_by_page(double: Server) -> None:
    with Client(address(double)) as client:
        made = [client.run(spec(steps=1, seed=seed)).id for seed in range(3)]
        found = [job.id for job in client.runs(limit=2)]
        assert found[:3] == made[::-1]
        assert len(set(found)) == len(found)
        assert [experiment.name for experiment in client.experiments()] == list(EXPERIMENTS)


def test_a_run_that_is_stopped(double: Server) -> None:
    with Client(address(double), patience=QUICK) as client:
        run = client.run(spec(steps=10**6))
        assert next(run.events()).kind == "started"
        assert run.cancel().status == "cancelled"
        assert run.cancel().status == "cancelled"  # as if the first answer had been lost
        assert list(run.events())[-1].kind == "cancelled"


def test_a_run_that_fails_says_where_and_what_to_do(double: Server) -> None:
    with Client(address(double)) as client:
        run = client.run(spec(seed=1313))
        with pytest.raises(ProblemError, match="not finite") as failed:
            run.wait()
    assert (failed.value.pointer, failed.value.hint) == ("/training/learning_rate", "lower it")


def test_a_wrong_request_says_where_and_what_to_do(double: Server) -> None:
    with Client(address(double)) as client, pytest.raises(ProblemError) as refused:
        client.run({**spec(), "training": {"kind": "gradient_descent", "learning_rate": -1.0, "steps": 3}})
    assert refused.value.status == 422
    assert refused.value.type == "urn:ntkengine:problem:invalid"
    assert refused.value.pointer == "/training/learning_rate"
    assert refused.value.hint
    assert "/training/learning_rate" in str(refused.value)


def test_an_answer_that_was_lost_makes_no_second_run(double: Server) -> None:
    with Client(address(double)) as direct:
        before = {job.id for job in direct.runs()}
        with cut_after(double.port, 0, 40) as proxy, Client(proxy, patience=QUICK) as client:
            run = client.run(spec(seed=77))
        assert {job.id for job in direct.runs()} - before == {run.id}


def test_a_removal_whose_answer_was_lost_is_none_the_less_one(double: Server) -> None:
    with Client(address(double)) as direct:
        run = direct.run(spec(steps=1))
        run.wait()
        with cut_after(double.port, 0) as proxy, Client(proxy, patience=QUICK) as client:
            client.attach(run.id).delete()
        with pytest.raises(ProblemError) as refused:  # nothing was lost: there is no such run
            run.delete()
        assert refused.value.status == 404


def test_a_large_kernel_that_is_asked_for_twice_is_one_job(engine: Server) -> None:
    with Client(address(engine)) as direct:
        with cut_after(engine.port, 40) as proxy, Client(proxy, patience=QUICK) as client:
            job = client.kernel_job(MODEL, X + 1.0)
        assert direct.kernel_job(MODEL, X + 1.0).id == job.id
        direct.kernel_job(MODEL, X + 1.0).delete()
        with pytest.raises(ProblemError):
            direct.perform(direct._ask.status(job.path))


@pytest.mark.parametrize("form", ["npz", "csv", "json"])
def test_a_runs_file(double: Server, form: str) -> None:
    with Client(address(double)) as client:
        run = client.run(spec(steps=3))
        run.wait()
        losses = run.series("loss")["loss"].value
        data = run.export(form)
        direct = double.client.get(f"/runs/{run.id}/export", params={"format": form}).content
    assert data == direct
    if form == "npz":
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            np.testing.assert_array_equal(found["loss.value"], losses)


def test_events_survive_cut_connections(double: Server) -> None:
    with Client(address(double)) as direct:
        run = direct.run(spec(steps=200))
        whole = list(run.events())
    with cut_after(double.port, 0, 700, 3000, 5001) as proxy, Client(proxy, patience=QUICK) as client:
        assert list(client.attach(run.id).events()) == whole

    async def read(proxy: str) -> list[Any]:
        async with AsyncClient(proxy, patience=QUICK) as client:
            return [event async for event in client.attach(run.id).events()]

    with cut_after(double.port, 0, 700, 3000, 5001) as proxy:
        assert asyncio.run(read(proxy)) == whole


@pytest.mark.long
@pytest.mark.faults
def test_events_survive_a_server_that_is_killed(tmp_path: Path) -> None:
    server = Server(tmp_path, "double", NTK_TEST_PACE="0.02", NTK_SEGMENT_SECONDS="0.1")
    server.start()
    try:
        with Client(address(server), patience=QUICK) as client:
            run = client.run(spec(steps=60))
            events = []
            for event in run.events():
                events.append(event)
                if event.kind == "progress" and event["segment"] == 2:
                    server.kill()
                    threading.Timer(0.3, server.start).start()
            assert run.wait().status == "succeeded"
    finally:
        server.close()
    assert [event.seq for event in events] == list(range(len(events)))
    assert [event["step"] for event in events if event.kind == "point"] == list(range(61))


def test_a_service_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
    patience = Patience(tries=2, stream_seconds=0.05, first_delay=0.02)
    with Client(nowhere, patience=patience) as client:
        with pytest.raises(ConnectionLost, match="does not answer"):
            client.experiments()
        with pytest.raises(ConnectionLost, match="does not answer"):
            list(client.attach("any").events())


def test_a_busy_service_is_asked_again_when_it_says() -> None:
    operation = exchange(Request("GET", "/runs"), Patience(tries=3, first_delay=0.1))
    assert next(operation) == Request("GET", "/runs")
    waits = operation.send(httpx.Response(429, headers={"Retry-After": "7"}))
    assert waits == Wait(7.0)
    assert next(operation) == Request("GET", "/runs")
    waits = operation.send(httpx.Response(503))
    assert isinstance(waits, Wait)
    assert 0.1 <= waits.seconds <= 0.2
    next(operation)
    with pytest.raises(ProblemError) as refused:
        operation.send(httpx.Response(503, json={"detail": "busy"}, request=httpx.Request("GET", "http://x")))
    assert refused.value.detail == "busy"


def test_who_has_used_up_a_day_is_told_at_once() -> None:
    operation = exchange(Request("POST", "/runs"), Patience(tries=3))
    next(operation)
    later = {"Retry-After": "3600"}
    with pytest.raises(ProblemError) as refused:
        operation.send(httpx.Response(429, headers=later, request=httpx.Request("POST", "http://x")))
    assert (refused.value.status, refused.value.tries) == (429, 1)


def test_the_key_is_sent() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"experiments": [], "said": request.headers.get("authorization")})

    transport = httpx.MockTransport(answer)
    with Client("http://there", key="secret", transport=transport) as client:
        said = client.perform(client._ask.json(Request("GET", "/experiments")))
    assert said["said"] == "Bearer secret"


def test_the_same_on_an_event_loop(double: Server) -> None:
    async def work() -> None:
        async with AsyncClient(address(double), patience=QUICK) as client:
            assert (await client.experiments())[0].name == next(iter(EXPERIMENTS))
            run = await client.run(spec(steps=10))
            kinds = [event.kind async for event in run.events()]
            assert kinds[0] == "started"
            assert kinds[-1] == "finished"
            assert (await run.wait()).status == "succeeded"
            assert (await run.series("loss"))["loss"].value.shape == (11,)
            assert run.id in [job.id async for job in client.runs()]
            assert (await client.usage())["compute_seconds"]["limit"] is None
            np.testing.assert_allclose((await client.kernel(MODEL, X)).ntk, X @ X.T)  # the double's
            with pytest.raises(ProblemError):
                await run.cancel()
            await run.delete()

    asyncio.run(work())
