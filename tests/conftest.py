"""What holds for every test: one thread of arithmetic a process, and no test skipped without a word."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.postgres import Postgres, program

# Before anything imports torch or numpy: results are bitwise repeatable, and small work is many times faster.
os.environ.setdefault("OMP_NUM_THREADS", "1")

EXPECTED_SKIPS = Path(__file__).with_name("expected_skips.txt")


def pytest_configure(config: pytest.Config) -> None:
    """Watch for skips."""
    lines = EXPECTED_SKIPS.read_text().splitlines()
    expected = {line for line in lines if line and not line.startswith("#")}
    config.pluginmanager.register(SkipWatch(expected, strict=os.environ.get("CI") == "true"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL; where its programs are missing, who needs it is skipped."""
    if program("initdb") is None:
        pytest.skip("PostgreSQL is not installed")
    # Not below pytest's own directory: it is closed to the user as whom the server runs.
    with tempfile.TemporaryDirectory(prefix="ntk-postgres-") as directory:
        server = Postgres(Path(directory))
        server.start()
        yield server
        server.stop()


class SkipWatch:
    """Compare the tests that were skipped with the checked-in list: a test may not drop out unnoticed.

    In CI, where all tests run, any difference fails; elsewhere a skip that is not listed is reported loudly.
    """

    def __init__(self, expected: set[str], *, strict: bool) -> None:
        self.expected = expected
        self.strict = strict
        self.skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.add(report.nodeid)

    @property
    def differences(self) -> list[str]:
        missing = sorted(self.expected - self.skipped) if self.strict else []
        return [f"skipped, but not in the list: {test}" for test in sorted(self.skipped - self.expected)] + [
            f"in the list, but not skipped: {test}" for test in missing
        ]

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Iterator[None]:
        if self.strict and self.differences and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        yield

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.differences:
            terminalreporter.section("skips differ from tests/expected_skips.txt", red=True, bold=True)
            for line in self.differences:
                terminalreporter.write_line(line, red=True)
