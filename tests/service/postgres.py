"""A private PostgreSQL of the system's programs: a data directory, a port and a life of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import psycopg

from tests.service.server import eventually

NOBODY = 65534  # PostgreSQL refuses to be started by root
INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def program(name: str) -> str | None:
    """Where a program of PostgreSQL is, preferring one that is no wrapper."""
    return shutil.which(name, path=os.pathsep.join([*map(str, INSTALLED), os.environ.get("PATH", "")]))


class Postgres:
    """One server on a free port, in a directory of its own that others may use."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with socket.create_server(("", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.log = directory / "postgres.log"
        self._as: list[str] = []
        if os.getuid() == 0:
            self._as = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            os.chown(directory, NOBODY, NOBODY)
        options = ["-U", "ntk", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        self._run("initdb", "-D", str(directory / "data"), *options)
        with (directory / "data" / "pg_hba.conf").open("a") as access:
            access.write("host all ntk 10.213.0.0/16 trust\n")  # the tests' network namespaces

    def _run(self, name: str, *arguments: str) -> None:
        command = [*self._as, program(name) or name, *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self._directory, timeout=60)

    def url(self, database: str = "postgres", host: str = "127.0.0.1") -> str:
        return f"postgresql+psycopg://ntk@{host}:{self.port}/{database}"

    def start(self) -> None:
        command = [*self._as, program("postgres") or "postgres", "-D", str(self._directory / "data")]
        command += ["-p", str(self.port), "-c", "listen_addresses=*"]
        command += ["-c", f"unix_socket_directories={self._directory}"]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=log)
        eventually(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            psycopg.connect(self._superuser).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def _superuser(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=ntk dbname=postgres"

    def database(self, name: str) -> str:
        """The URL of a new database."""
        with psycopg.connect(self._superuser, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def stop(self) -> None:
        """End it at once, as a crash would: SIGQUIT, and the log is replayed at the next start."""
        self._process.send_signal(3)
        self._process.wait(30)
