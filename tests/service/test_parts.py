"""Parts of the service by themselves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from starlette.requests import Request

from ntkengine import Dense, Model, Repeat
from ntkengine.data import Dataset
from ntkengine.kernels import KernelSpec
from ntkengine.layers import AnyLayer
from service import entry
from service.compute.pool import Pool, ProcessExecutor
from service.compute.worker import Launcher, TaskFailed, WorkerDied
from service.encoding import Message, dumps
from service.errors import ServiceError
from service.routes.negotiation import negotiate
from service.routes.runs import _merge_patch
from service.runs.limits import FEW_LAYERS, is_quick
from service.runs.notify import Notifier
from service.runs.states import MEANING, TRANSITIONS, Status, sources
from service.settings import Settings
from service.store.database import connect
from service.store.files import DamagedFile, JobFiles
from service.store.jobs import MOST_AT_ONCE, JobStore, NewEvent
from service.store.schema import VERSION, SchemaTooNew, migrate, schema_version
from tests.service import double
from tests.service.server import eventually


def test_an_empty_setting_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTK_DATA_DIR", "")
    monkeypatch.setenv("NTK_JOB_SECONDS", "")
    assert Settings() == Settings.model_construct()


def test_a_command_that_is_interrupted_while_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "service.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "service.cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130


def test_states() -> None:
    assert set(MEANING) == set(TRANSITIONS) == set(Status)
    assert sources(Status.CANCELLED) == [Status.QUEUED, Status.RUNNING]
    assert [status for status in Status if status.is_final] == ["succeeded", "failed", "cancelled"]


@given(
    arrays.arrays(
        np.float64, arrays.array_shapes(), elements=st.floats(allow_nan=False, allow_infinity=False)
    )
)
def test_numbers_and_messages_come_back_as_they_went(array: Any) -> None:
    assert np.array_equal(np.array(json.loads(dumps(array))), array)
    message = Message.unpack(Message({"a": 1}, {"x": array, "y": array.T}).pack())
    assert message.header == {"a": 1}
    assert np.array_equal(message.arrays["x"], array)
    assert np.array_equal(message.arrays["y"], array.T)


@pytest.mark.parametrize(("dtype", "shape"), [("|O", [1]), ("<f8", [3])])
def test_no_message_holds_objects_or_less_than_it_says(dtype: str, shape: list[int]) -> None:
    head = dumps({"header": {}, "arrays": {"x": [dtype, shape]}}).encode()
    with pytest.raises(ValueError, match=r"OBJECT|buffer"):
        Message.unpack(len(head).to_bytes(8, "big") + head + bytes(16))


def test_what_is_judged_without_a_thread() -> None:
    """Neither deep networks, also those of few fields, nor data sets, which are on the disk."""
    dense = Dense(width=1)

    def kernel(*layers: AnyLayer, x: Any = ((1.0,),)) -> KernelSpec:
        return KernelSpec(model=Model(layers=layers), x1=x)

    assert is_quick(kernel(*[dense] * FEW_LAYERS))
    assert not is_quick(kernel(*[dense] * FEW_LAYERS, dense))
    assert not is_quick(kernel(Repeat(layer=dense, times=FEW_LAYERS + 1)))
    assert not is_quick(kernel(dense, x=Dataset(name="digits")))


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps([float("nan")])


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "a/json"),
        ("", "a/json"),
        ("a/npy", "a/npy"),
        ("a/json;q=0.5, a/npy", "a/npy"),
        ("a/*, a/json;q=0.1", "a/npy"),
        ("text/html, */*;q=0.1", "a/json"),
    ],
)
def test_negotiation(accept: str, expected: str) -> None:
    request = Request({"type": "http", "headers": [(b"accept", accept.encode())]})
    assert negotiate(request, ["a/json", "a/npy"]) == expected


@pytest.mark.parametrize("accept", ["text/html", "a/json;q=0, a/npy;q=0", "a/npy;q=x"])
def test_nothing_acceptable(accept: str) -> None:
    request = Request({"type": "http", "headers": [(b"accept", accept.encode())]})
    with pytest.raises(ServiceError, match="No representation"):
        negotiate(request, ["a/json", "a/npy"])


def test_merge_patch_of_the_standard() -> None:
    target = {"title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"}, "tags": ["a", "b"]}
    patch = {"title": "Hello!", "author": {"familyName": None}, "tags": ["c"], "phone": "1"}
    expected = {"title": "Hello!", "author": {"givenName": "John"}, "tags": ["c"], "phone": "1"}
    assert _merge_patch(target, patch) == expected
    assert _merge_patch({"e": None}, {"a": 1}) == {"e": None, "a": 1}
    assert _merge_patch([1, 2], {"a": {"b": None}}) == {"a": {}}


def test_files_are_whole_or_refused(tmp_path: Path) -> None:
    files = JobFiles(tmp_path)
    digest = files.save_checkpoint({"w": np.arange(3.0)})
    assert np.array_equal(files.load_checkpoint(digest)["w"], np.arange(3.0))
    (tmp_path / "checkpoints" / ".0.partial").write_bytes(b"half")
    files.sweep({digest})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [f"{digest}.npz"]
    path = tmp_path / "checkpoints" / f"{digest}.npz"
    path.write_bytes(path.read_bytes().replace(b"npy", b"npx"))
    with pytest.raises(DamagedFile):
        files.load_checkpoint(digest)
    assert not files.has_checkpoint(digest)
    assert files.save_checkpoint({"w": np.arange(3.0)}) == digest  # not taken for written already
    assert files.has_checkpoint(digest)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    engine = connect(f"sqlite:///{tmp_path / 'test.sqlite'}")
    migrate(engine)
    store = JobStore(engine)
    store.create({"id": "r", "status": "running", "spec": "{}", "facts": "{}", "created_at": "2026"})
    yield store
    engine.dispose()


def test_a_change_is_all_or_nothing(store: JobStore) -> None:
    points = [NewEvent("point", n, float(n), values={"loss": str(n)}) for n in range(3)]
    expect: dict[str, list[Any]] = {"status": ["running"], "segment": [0]}
    assert store.advance("r", expect, {"segment": 1}, points, at="t", checkpoint="d1")
    assert not store.advance("r", expect, {"segment": 1}, points, at="t", checkpoint="d2")
    assert [event.seq for event in store.events_after("r", -1, 10)] == [0, 1, 2]
    assert [checkpoint.digest for checkpoint in store.checkpoints("r")] == ["d1"]
    assert json.loads(store.events_after("r", 1, 10)[0].text) == {
        "kind": "point", "seq": 2, "at": "t", "step": 2, "time": 2.0, "loss": 2,
    }  # fmt: skip


def test_readers_get_no_more_at_once_than_they_may_hold(store: JobStore) -> None:
    large = dumps("x" * (MOST_AT_ONCE // 3))
    points = [NewEvent("point", n, float(n), values={"a": large, "b": "2"}) for n in range(10)]
    assert store.advance("r", {}, {}, points, at="t")
    batches = [store.events_after("r", seq, 100) for seq in (-1, 2, 5, 8)]
    assert [[event.seq for event in batch] for batch in batches] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert all(json.loads(event.text)["b"] == 2 for batch in batches for event in batch)


@given(total=st.integers(1, 60), every=st.integers(1, 70), most=st.integers(2, 70), first=st.integers(0, 70))
def test_thinning_is_even_and_keeps_the_ends(total: int, every: int, most: int, first: int) -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    migrate(engine)
    store = JobStore(engine)
    store.create({"id": "r", "status": "running", "spec": "{}", "facts": "{}", "created_at": "2026"})
    points = [NewEvent("point", n, float(n), values={"loss": str(n)}) for n in range(total)]
    store.advance("r", {}, {}, points, at="t")
    found = store.series("r", "loss", first, every, most)
    wanted = list(range(first, total))
    assert found.total == len(wanted)
    assert len(found.steps) <= most
    assert found.every >= every
    assert found.steps == sorted({*wanted[:: found.every], *wanted[-1:]})
    engine.dispose()


def test_database_of_a_newer_program(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'test.sqlite'}")
    assert migrate(engine) == migrate(engine) == VERSION
    with engine.begin() as connection:
        connection.execute(sa.insert(schema_version).values(version=99))
    with pytest.raises(SchemaTooNew):
        migrate(engine)
    engine.dispose()


def test_readers_are_woken_from_other_threads() -> None:
    async def scenario() -> None:
        notifier = Notifier()
        notifier.attach(asyncio.get_running_loop())
        with notifier.subscribe("r") as changed, notifier.subscribe("other") as unchanged:
            await asyncio.to_thread(notifier.notify, "r")
            async with asyncio.timeout(5):
                await changed.wait()
            assert not unchanged.is_set()

    asyncio.run(scenario())


def describe(request: Message) -> Message:
    return Message({"sum": float(request.arrays["x"].sum()), **request.header})


def fail(request: Message) -> Message:
    raise ValueError(request.header["secret"])


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    pool = Pool(double.warm, 1)
    pool.start()
    with ProcessExecutor(pool, 1, patience=30) as executor:
        yield executor
    pool.close()


def linger(request: Message) -> Message:
    time.sleep(60)
    return request


def test_a_call_that_takes_too_long_is_stopped() -> None:
    pool = Pool(double.warm, 1)
    pool.start()
    eventually(lambda: pool.live() == 1)
    with ProcessExecutor(pool, 1, patience=0.3) as impatient, pytest.raises(TimeoutError):
        impatient.submit(linger, Message({})).result()
    pool.close()


def test_executor(executor: Executor) -> None:
    answers = [executor.submit(describe, Message({"n": n}, {"x": np.full(3, n)})) for n in range(3)]
    assert [answer.result().header for answer in answers] == [{"n": n, "sum": 3.0 * n} for n in range(3)]


def test_what_a_task_raises_stays_inside(executor: Executor) -> None:
    with pytest.raises(TaskFailed) as caught:
        executor.submit(fail, Message({"secret": "s3cret"})).result()
    assert caught.value.parts["category"] == "internal"
    assert "s3cret" not in str(caught.value)
    assert executor.submit(describe, Message({}, {"x": np.ones(1)})).result().header["sum"] == 1.0


def parent(request: Message) -> Message:
    return Message({"pid": os.getppid()})


def end(request: Message) -> Message:
    os._exit(request.header["status"])


def test_how_a_process_ended_is_told(executor: Executor) -> None:
    with pytest.raises(WorkerDied, match="exit status 7"):
        executor.submit(end, Message({"status": 7})).result()


def test_a_nursery_that_died_is_replaced(executor: Executor) -> None:
    nursery = executor.submit(parent, Message({})).result().header["pid"]
    assert executor.submit(parent, Message({})).result().header["pid"] == nursery
    os.kill(nursery, signal.SIGKILL)

    def replaced() -> bool:
        with suppress(WorkerDied):  # the child died with its parent, unnoticed so far
            return bool(executor.submit(parent, Message({})).result().header["pid"] != nursery)
        return False

    eventually(replaced)


def warm_with_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


def test_nothing_is_forked_from_a_process_with_threads() -> None:
    launcher = Launcher(warm_with_a_thread, 2**40)
    with pytest.raises(WorkerDied, match="exit status 1"):
        launcher.start()
    launcher.close()
    with pytest.raises(RuntimeError):
        launcher.start()
