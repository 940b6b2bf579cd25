"""The `ntk` command of this environment, started as a user starts it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ntk(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start it, with all it says in one stream (but no line a request, to fill it up), and see it end."""
    command = [str(Path(sys.executable).with_name("ntk")), *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "NTK_LOG_LEVEL": "warning"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def announced_address(process: subprocess.Popen[str]) -> str:
    """Wait until the service says where it is."""
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"page +(http://\S+)/", line):
            return found[1]
    raise AssertionError("the service ended before it was ready:\n" + "".join(said))
