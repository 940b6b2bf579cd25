"""The image, and the compose file, doing the service's work; kills and restarts in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.client import Event
from tests.containers.stack import IMAGE, LOCKED_DOWN, Stack, docker, free_port, inspect, is_healthy
from tests.service.server import eventually

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
STEPS = 2000

# Two layers, the middle one quadratic, with uniform weights: theta(x, x) = 1.4902..., exactly.
QUADRATIC = {
    "layers": [
        {"kind": "dense", "width": 1000, "W_law": {"kind": "uniform", "half_width": 1.0}, "b_std": 1.0,
         "b_law": {"kind": "uniform", "half_width": 0.5}},
        {"kind": "quadratic"},
        {"kind": "dense", "width": 1, "W_law": {"kind": "uniform", "half_width": 1.0}},
    ]
}  # fmt: skip


DIGITS = {"kind": "dataset", "name": "digits", "limit": 100}
# It takes many seconds and records each step.
TRAINING = {
    "model": {
        "layers": [{"kind": "dense", "width": 512}, {"kind": "relu"}, {"kind": "dense", "width": 10}],
    },
    "data": {"x": DIGITS, "y": DIGITS},
    "training": {"kind": "gradient_descent", "learning_rate": 0.01, "steps": STEPS},
    "record": [{"what": "loss", "schedule": {"kind": "every", "steps": 1}}],
    "seed": 3,
}


def losses(events: list[Event]) -> list[float]:
    """The losses of a run that was streamed to its end: every event once, in order, none missing."""
    assert [event.seq for event in events] == list(range(len(events)))
    assert (events[0].kind, events[-1].kind) == ("started", "finished")
    points = [event for event in events if event.kind == "point"]
    assert [point["step"] for point in points] == list(range(STEPS + 1))
    return [point["loss"] for point in points]


def test_the_image_has_no_secret_and_no_root() -> None:
    image = inspect(IMAGE)
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["Healthcheck"]["Test"][0] == "CMD"
    absent = "for path in /run/secrets/pip.conf /run/secrets/ca.crt /wheels /src; do test ! -s $path; done"
    docker("run", "--rm", "--network", "none", "--entrypoint", "sh", IMAGE, "-euc", absent)


def test_nobody_serves_everyone_without_a_key() -> None:
    docker("run", "--name", "open", "--network", "none", IMAGE, check=False)
    assert inspect("open")["State"]["ExitCode"] == 1
    docker("rm", "--volumes", "open")


def test_one_container_alone(secrets: Path, alone: str) -> None:
    port = free_port()
    keys = ("--env", "NTK_API_KEYS_FILE=/keys", "--volume", f"{secrets / 'api_keys'}:/keys:ro")
    began = time.monotonic()
    docker("run", "--detach", "--name", alone, "--network", alone, "--publish", f"127.0.0.1:{port}:8000",
           *HARDENED, *keys, IMAGE)  # fmt: skip
    eventually(lambda: answers(f"http://127.0.0.1:{port}/readyz"), 60)
    ready = time.monotonic() - began
    eventually(lambda: is_healthy(alone))
    docker("exec", alone, "sh", "-euc", LOCKED_DOWN)
    assert answers(f"http://127.0.0.1:{port}/")
    time.sleep(5)
    memory = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", alone)
    began = time.monotonic()
    docker("stop", "--time", "15", alone)
    print(  # noqa: T201 (scripts/containers.sh shows it)
        f"ready after {ready:.1f} s, idle at {memory}, stopped in {time.monotonic() - began:.1f} s"
    )
    assert inspect(alone)["State"]["ExitCode"] == 0


def answers(url: str) -> bool:
    """Whether something answers there, and well."""
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def test_every_container_is_locked_down(stack: Stack) -> None:
    for container in stack.containers():
        docker("exec", container, "sh", "-euc", LOCKED_DOWN)


def test_a_key_is_needed(stack: Stack) -> None:
    assert httpx.get(f"{stack.url}/runs").status_code == 401


def test_a_kernel(stack: Stack) -> None:
    kernel = stack.client.kernel(QUADRATIC, [[1.0], [-1.0]]).ntk
    assert abs(kernel[0, 0] - 1.4902777777777778) < 1e-14


def kill_the_server(stack: Stack) -> None:
    docker("kill", "--signal", "KILL", *stack.containers("api"))
    stack.up()


def restart_the_database(stack: Stack) -> None:
    stack.compose("restart", "db")


def take_all_down_and_up(stack: Stack) -> None:
    stack.compose("down")
    assert not stack.containers()
    stack.up()


@pytest.fixture(scope="module")
def undisturbed(stack: Stack) -> list[float]:
    return losses(list(stack.client.run(TRAINING).events()))


@pytest.mark.parametrize("disturb", [kill_the_server, restart_the_database, take_all_down_and_up])
def test_a_run_survives(disturb: Callable[[Stack], None], stack: Stack, undisturbed: list[float]) -> None:
    run = stack.client.run(TRAINING)
    events = run.events()
    head = [next(events) for _ in range(100)]
    assert run.status().status == "running"
    disturb(stack)
    assert losses(head + list(events)) == undisturbed
    assert run.status().status == "succeeded"


def test_a_run_survives_its_worker(stack: Stack, undisturbed: list[float]) -> None:
    runs = [stack.client.run(TRAINING) for _ in range(2)]  # the server takes one at most
    streams = [run.events() for run in runs]
    heads = [[next(events) for _ in range(100)] for events in streams]
    worker = eventually(lambda: next(filter(None, (stack.computes(run.id, "worker") for run in runs)), None))
    docker("kill", "--signal", "KILL", worker)
    assert worker not in stack.containers("worker")
    assert "running" in {run.status().status for run in runs}
    for head, events in zip(heads, streams, strict=True):
        assert losses(head + list(events)) == undisturbed
    stack.up()


def test_nothing_is_lost(stack: Stack) -> None:
    assert [job.status for job in stack.client.runs()] == ["succeeded"] * 6
