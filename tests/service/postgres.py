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
    """One server on a free port of the loopback address, `host`, or whichever is given."""

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self._directory = directory
        self._host = host
        with socket.create_server((host, 0)) as probe:
            self.port = probe.getsockname()[1]
        self.log = directory / "postgres.log"
        self._as: list[str] = []
        if os.getuid() == 0:
            self._as = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            os.chown(directory, NOBODY, NOBODY)
        for parent in directory.parents:  # others may pass
            if parent.stat().st_uid == os.getuid() and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o111)
        options = ["-U", "ntk", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        self._run("initdb", "-D", str(directory / "data"), *options)

    def _run(self, name: str, *arguments: str) -> None:
        command = [*self._as, program(name) or name, *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self._directory, timeout=60)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://ntk@{self._host}:{self.port}/{database}"

    def start(self) -> None:
        command = [*self._as, program("postgres") or "postgres", "-D", str(self._directory / "data")]
        command += ["-p", str(self.port), "-c", f"listen_addresses={self._host}"]
        command += ["-c", f"unix_socket_directories={self._directory}"]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=log)
        eventually(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            psycopg.connect(host=self._host, port=self.port, user="ntk", dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def database(self, name: str) -> str:
        """The URL of a new database."""
        arguments = {"host": self._host, "port": self.port, "user": "ntk", "dbname": "postgres"}
        with psycopg.connect(**arguments, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def stop(self) -> None:
        """End it at once, as a crash would: SIGQUIT, and the log is replayed at the next start."""
        self._process.send_signal(3)
        self._process.wait(30)
