"""Copies of all that the service keeps, taken while it works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ntkengine.dynamics import RunSpec
from ntkengine.gram.store import RECORD
from ntkengine.spec import from_jsonable
from service.store.backup import NotCopied, backup, restore
from tests.service import double
from tests.service.examples import KERNEL, RUN, changed
from tests.service.server import JSONObject, Server, eventually

PACE = {"NTK_TEST_PACE": "0.01", "NTK_SEGMENT_SECONDS": "0.05", "NTK_TEST_LARGE": "30"}
STEPS = 1500  # at that pace some 15 s, in which three copies are taken on a busy machine, too
LONG = changed(changed(RUN, "/training/steps", STEPS), "/seed", 5)


def ntk(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from service.cli import main; main()", *arguments]
    environment = os.environ | environment
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)


def uninterrupted(body: JSONObject) -> list[object]:
    """The losses of a run to which nothing happens, computed here."""
    segments = double.descend(from_jsonable(RunSpec, body), segment_seconds=60)
    return [point.values["loss"] for segment in segments for point in segment.points]


def test_a_copy_goes_on_elsewhere(tmp_path: Path) -> None:
    """Copies are taken of a run while it is written; the last one is restored and goes on, bit for bit."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old = Server(tmp_path / "old", "double", **PACE)
    old.start()
    finished = old.create(changed(RUN, "/training/steps", 5))
    list(old.events(finished))
    kernel = old.client.post("/kernel", json=KERNEL, headers={"Prefer": "respond-async"}).json()["id"]
    list(old.events_of(f"/kernels/{kernel}"))
    before = [old.show(finished), old.client.get(f"/kernels/{kernel}/data").content]
    run_id = old.create(LONG)
    old.reach(run_id, 20)
    data = str(tmp_path / "old" / "data")
    for copy in range(3):
        made = ntk("backup", str(tmp_path / f"copy-{copy}"), "--data-dir", data)
        assert made.returncode == 0, made.stderr
    at_copy = old.show(run_id, fields="")["progress"]["points"]
    assert at_copy < STEPS  # or this test would show nothing
    old.kill()

    restored = ntk("restore", str(tmp_path / "copy-2"), "--data-dir", str(tmp_path / "new" / "data"))
    assert restored.returncode == 0, restored.stderr
    new = Server(tmp_path / "new", "double", **PACE | {"NTK_TEST_PACE": "0"})
    new.start()
    try:
        events = list(new.events(run_id))
        assert [event["seq"] for event in events] == list(range(len(events)))
        assert events[-1]["kind"] == "finished"
        points = [event for event in events if event["kind"] == "point"]
        assert [point["loss"] for point in points] == uninterrupted(LONG)
        for point in (points[0], points[-1]):
            assert new.client.get(point["kernel"]["href"]).status_code == 200
        assert [new.show(finished), new.client.get(f"/kernels/{kernel}/data").content] == before
        assert new.client.delete(f"/runs/{finished}").status_code == 204
        assert (tmp_path / "copy-2" / "runs" / finished).is_dir()  # the copy is nobody's to change
    finally:
        new.close()
        old.close()


def test_what_is_not_copied(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    with pytest.raises(NotCopied, match="no database"):
        backup(data, data / "ntk.sqlite", copy)
    server = Server(tmp_path, "double")
    server.start()
    eventually((data / "ntk.sqlite").exists)
    server.close()
    (data / "tickets.secret").write_bytes(b"secret")
    (data / "runs" / "r").mkdir(parents=True)
    (data / "runs" / "r" / ".half.partial").write_bytes(b"half")
    record = data / "runs" / "r" / "gram" / RECORD
    record.parent.mkdir()
    record.write_bytes(bytes(3))
    backup(data, data / "ntk.sqlite", copy)
    with record.open("r+b") as file:
        file.write(b"new")  # the service knows more tiles than were copied
    copied = copy / record.relative_to(data)
    assert copied.read_bytes() == bytes(3)
    copied.unlink()
    assert {path.name for path in copy.rglob("*") if path.is_file()} == {"ntk.sqlite"}
    with pytest.raises(NotCopied, match="exists"):
        backup(data, data / "ntk.sqlite", copy)
    with pytest.raises(NotCopied, match="already"):
        restore(copy, data, data / "ntk.sqlite")
    with pytest.raises(NotCopied, match="no backup"):
        restore(tmp_path / "nothing", tmp_path / "new", tmp_path / "new" / "ntk.sqlite")
    (copy / "ntk.sqlite").write_bytes(b"SQLite format 3\x00" + bytes(4096))
    with pytest.raises(NotCopied, match=r"cannot be read|damaged"):
        restore(copy, tmp_path / "new", tmp_path / "new" / "ntk.sqlite")
    assert not (tmp_path / "new" / "ntk.sqlite").exists()
