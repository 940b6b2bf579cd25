"""Jobs of any kind in the store: databases of the version before, and one job for a content."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from service.runs.kinds import KINDS, of_request
from service.store.database import connect
from service.store.jobs import ContentTaken, JobStore, KeyTaken
from service.store.schema import VERSION, migrate

# The tables of version 1 as far as they changed, with a run, an event and a key.
VERSION_1 = """
CREATE TABLE runs (id TEXT PRIMARY KEY, status TEXT NOT NULL, outcome TEXT, experiment TEXT,
 spec TEXT NOT NULL, facts TEXT NOT NULL, created_at TEXT NOT NULL, started_at TEXT, ended_at TEXT,
 error TEXT, detail TEXT, segment INTEGER NOT NULL, next_seq BIGINT NOT NULL, points BIGINT NOT NULL,
 progress FLOAT NOT NULL, step BIGINT, time FLOAT, seconds_left FLOAT, crashes INTEGER NOT NULL);
CREATE INDEX runs_by_age ON runs (created_at, id);
CREATE TABLE events (run_id TEXT, seq BIGINT, kind TEXT NOT NULL, at TEXT NOT NULL, step BIGINT,
 time FLOAT, payload TEXT, PRIMARY KEY (run_id, seq)) WITHOUT ROWID;
CREATE TABLE quantities (run_id TEXT, what TEXT, i BIGINT, seq BIGINT NOT NULL, step BIGINT,
 time FLOAT NOT NULL, payload TEXT NOT NULL, PRIMARY KEY (run_id, what, i)) WITHOUT ROWID;
CREATE INDEX quantities_by_seq ON quantities (run_id, seq);
CREATE TABLE checkpoints (run_id TEXT, segment INTEGER, digest TEXT NOT NULL, points BIGINT NOT NULL,
 PRIMARY KEY (run_id, segment));
CREATE TABLE idempotency_keys (key TEXT PRIMARY KEY, request_digest TEXT NOT NULL, run_id TEXT NOT NULL);
CREATE TABLE schema_version (version INTEGER PRIMARY KEY);
INSERT INTO schema_version VALUES (1);
INSERT INTO runs VALUES ('r', 'running', NULL, NULL, '{"seed":7}', '{}', '2026', NULL, NULL, NULL, NULL,
 3, 1, 0, 0.5, NULL, NULL, NULL, 0);
INSERT INTO events VALUES ('r', 0, 'started', '2026', NULL, NULL, '{}');
INSERT INTO idempotency_keys VALUES ('key', 'digest', 'r');
"""


def row(name: str, content: str | None) -> dict[str, str | None]:
    return {"id": name, "kind": "kernel", "status": "queued", "spec": "{}", "facts": "{}", "created_at": name,
            "content": content}  # fmt: skip


def test_runs_of_an_older_database_are_jobs(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'test.sqlite'}")
    with engine.begin() as connection:
        for statement in VERSION_1.split(";\n"):
            if statement.strip():
                connection.execute(sa.text(statement.replace(":", "\\:")))
    assert migrate(engine) == VERSION
    store = JobStore(engine)
    found = store.get("r")
    assert found is not None
    assert (found["kind"], found["segment"], found["result"]) == ("run", 3, None)
    assert store.spec("r") == '{"seed":7}'
    assert [event.kind for event in store.events_after("r", -1, 9)] == ["started"]
    with pytest.raises(KeyTaken):  # it belongs to nobody, as the run does
        store.create(row("again", None), key=(":key", "digest"))
    store.create(row("new", "c"))
    assert [job["id"] for job in store.page({"kind": "run"}, "newest", None, 9)] == ["r"]
    engine.dispose()


def test_a_content_has_one_job_until_it_is_let_go(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'test.sqlite'}")
    migrate(engine)
    store = JobStore(engine)
    store.create(row("first", "c"))
    with pytest.raises(ContentTaken) as caught:
        store.create(row("second", "c"))
    assert caught.value.job_id == "first"
    assert store.get("second") is None
    for name in ("without", "also-without"):
        store.create(row(name, None))
    assert store.advance("first", {"status": ["queued"]}, {"status": "cancelled", "content": None}, at="t")
    store.create(row("third", "c"))
    assert store.with_content("c") == "third"
    engine.dispose()


def test_kinds_are_told_apart() -> None:
    assert len({kind.name for kind in KINDS}) == len({kind.path for kind in KINDS}) == len(KINDS)
    assert of_request("kernel", None, "{}") != of_request("other", None, "{}")
    assert of_request("kernel", "ann", "{}") != of_request("kernel", "ben", "{}")
