"""Any sequence of requests and kills, against a model in memory of what the service has promised."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.faults.conftest import PACE, ROUNDS, Database
from tests.faults.ledger import spec, uninterrupted
from tests.service.server import JSONObject, Server, descendants

pytestmark = [pytest.mark.faults, pytest.mark.verify]

STEPS = st.integers(0, 100)
SEEDS = st.integers(0, 3)
CONNECTIONS = {"NTK_CRASHES_ALLOWED": "1000", "NTK_WARM_PROCESSES": "1"}


@dataclass
class Known:
    """A run as the client knows it: what it asked for, what it has been told."""

    body: JSONObject
    told: list[JSONObject] = field(default_factory=list)
    end: str | None = None
    """The kind of its last event, once the client was told how it ended."""


class Service(RuleBasedStateMachine):
    """Rules are what clients do, and what happens to the service meanwhile."""

    runs = Bundle("runs")

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.account = database.account("any sequence of requests and kills")
        self.directory = tempfile.TemporaryDirectory(prefix="ntk-machine-")
        root = Path(self.directory.name)
        self.server = Server(root, "double", **PACE, **CONNECTIONS, **database.settings)
        self.server.start()
        self.known: dict[str, Known] = {}
        self.keys: dict[str, tuple[str, JSONObject]] = {}
        self.before = {run["id"] for run in self.listed()}  # of earlier machines on this database

    def listed(self) -> list[JSONObject]:
        found: list[JSONObject] = self.server.client.get("/runs", params={"limit": 500}).json()["runs"]
        return found

    @rule(target=runs, steps=STEPS, seed=SEEDS)
    def create(self, steps: int, seed: int) -> str:
        body = spec(steps, seed=seed)
        run_id = self.server.create(body)
        assert run_id not in self.known
        self.known[run_id] = Known(body)
        return run_id

    @rule(target=runs, key=st.sampled_from("ab"), steps=st.sampled_from([10, 60]))
    def create_with_a_key(self, key: str, steps: int) -> str:
        body, name = spec(steps), f"{self.directory.name} {key}"
        answer = self.server.client.post("/runs", json=body, headers={"Idempotency-Key": name})
        first, asked = self.keys.get(key, (None, body))
        self.account.expect(answer.status_code, 202 if asked == body else 422)
        run_id = str(answer.json().get("id", first))
        if first is None:
            self.known[run_id] = Known(body)
            self.keys[key] = (run_id, body)
        self.account.compare([(run_id,)], [(first or run_id,)])
        return run_id

    @rule(run_id=runs)
    def cancel(self, run_id: str) -> None:
        answer = self.server.client.post(f"/runs/{run_id}/cancel").status_code
        if run_id not in self.known:
            self.account.expect(answer, 404)
        elif self.known[run_id].end is None:
            self.known[run_id].end = {200: "cancelled", 409: "finished"}[answer]
        else:
            self.account.expect(answer, 409)

    @rule(run_id=consumes(runs))
    def delete(self, run_id: str) -> None:
        right = 204 if run_id in self.known else 404
        self.account.expect(self.server.client.delete(f"/runs/{run_id}").status_code, right)
        self.known.pop(run_id, None)
        self.keys = {key: kept for key, kept in self.keys.items() if kept[0] != run_id}

    @rule(run_id=runs)
    def read(self, run_id: str) -> None:
        """What was told before is told again, word for word."""
        if run_id in self.known:
            run = self.known[run_id]
            stored = self.server.show(run_id)["series"].get("loss", {"value": []})["value"]
            told = self.told_now(run_id, len(stored))
            self.account.compare([(repr(e),) for e in told[: len(run.told)]], [(repr(e),) for e in run.told])
            run.told = told

    def told_now(self, run_id: str, points: int) -> list[JSONObject]:
        """The events until there were so many points."""
        told = []
        for event in self.server.events(run_id):
            told.append(event)
            points -= event["kind"] == "point"
            if points <= 0:
                break
        return told

    @rule(run_id=runs)
    def follow_to_the_end(self, run_id: str) -> None:
        if run_id in self.known:
            run = self.known[run_id]
            events = list(self.server.events(run_id))
            run.end = run.end or "finished"
            self.account.audit(events, uninterrupted(run.body), run.end)
            self.account.compare(
                [(repr(e),) for e in events[: len(run.told)]], [(repr(e),) for e in run.told]
            )

    @rule()
    def kill_the_server(self) -> None:
        self.server.kill()
        self.account.injected += 1
        self.server.start()

    @rule(run_id=runs)
    def kill_its_process(self, run_id: str) -> None:
        ours = set(descendants(self.server.pid))
        for process in ours.intersection(self.server.processes_of(run_id)[-1:]):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
                self.account.injected += 1

    @invariant()
    def all_runs_are_there(self) -> None:
        found = sorted((run["id"],) for run in self.listed() if run["id"] not in self.before)
        self.account.compare(found, sorted((run_id,) for run_id in self.known))

    def teardown(self) -> None:
        """What has not ended ends as it should."""
        try:
            for run_id in self.known:
                self.follow_to_the_end(run_id)
        finally:
            self.server.close()
            self.directory.cleanup()


@pytest.mark.timeout(3600)
def test_any_sequence(database: Database) -> None:
    run_state_machine_as_test(
        partial(Service, database),  # type: ignore[arg-type]
        settings=settings(
            max_examples=ROUNDS,
            stateful_step_count=25 if ROUNDS > 1 else 8,
            deadline=None,
            database=None,
            derandomize=ROUNDS == 1,
            phases=[Phase.generate],  # an example that fails is printed; to shrink it would take hours
            suppress_health_check=list(HealthCheck),
        ),
    )
