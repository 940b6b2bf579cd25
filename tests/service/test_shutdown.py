"""How the service ends: asked to, it ends well and soon; killed, it takes all that it started with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest

from tests.service.examples import RUN, changed
from tests.service.server import Server, alive, descendants, eventually

LONG = changed(RUN, "/training/steps", 400)
PACE = {"NTK_TEST_PACE": "0.01", "NTK_SEGMENT_SECONDS": "0.1", "NTK_WARM_PROCESSES": "2"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, "double", **PACE)
    server.start()
    yield server
    server.close()


class Reader(Thread):
    """Reads a stream until its end, whatever that is."""

    def __init__(self, server: Server, run_id: str, media: str) -> None:
        super().__init__()
        self._request = (f"http://127.0.0.1:{server.port}/runs/{run_id}/events", {"Accept": media})
        self.lines: list[str] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        url, headers = self._request
        try:
            with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
                for line in answer.iter_lines():
                    self.lines.append(line)
        except httpx.TransportError as error:
            self.failure = error


def test_asked_to_stop_in_the_middle_of_things(server: Server) -> None:
    run_id = server.create(LONG)
    server.reach(run_id, 20)
    readers = [Reader(server, run_id, media) for media in ("text/event-stream", "application/x-ndjson")]
    for reader in readers:
        reader.start()
        eventually(lambda reader=reader: len(reader.lines) > 20)  # type: ignore[misc]
    started = [server.process_of(run_id), *descendants(server.pid)]
    assert server.stop() == 0
    for reader in readers:
        reader.join(10)
        assert not reader.is_alive()
        assert reader.failure is None  # an end, not a broken connection: a browser comes back by itself
    assert readers[0].lines[0] == "retry: 1000"
    eventually(lambda: not any(map(alive, started)), patience=2)
    log = server.log.read_text()
    assert "Traceback" not in log
    assert '"level": "error"' not in log
    server.start()
    events = list(server.events(run_id))
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert events[-1]["kind"] == "finished"
    assert server.show(run_id, fields="")["progress"]["crashes"] == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_while_it_is_idle(server: Server, how: signal.Signals) -> None:
    server.process.send_signal(how)
    assert server.process.wait(30) == 0
    assert "Traceback" not in server.log.read_text()


def test_nothing_is_left_of_a_killed_server(server: Server) -> None:
    """Neither the processes of its runs, nor those that wait for work, nor the ones that just start."""
    run_id = server.create(LONG)
    server.reach(run_id, 20)
    started = descendants(server.pid)
    assert server.process_of(run_id) in started
    assert len(started) >= 2
    server.kill()
    eventually(lambda: not any(map(alive, started)), patience=2)  # what is promised


def test_the_command_ends_well_too(tmp_path: Path) -> None:
    """`ntk serve` until Ctrl-C."""
    program = "from service.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("curl" in line for line in iter(process.stdout.readline, ""))  # the last thing it says
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Stopped." in out
    assert "Traceback" not in err
