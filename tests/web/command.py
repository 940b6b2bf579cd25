"""The `ntk` command of this environment, started as a user starts it."""

import os
import re
import subprocess
import sys
from pathlib import Path


def ntk(*arguments: str) -> subprocess.Popen[str]:
    """Start it, with everything it says in one stream; it is not to fill up with a line a request."""
    command = [str(Path(sys.executable).with_name("ntk")), *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "NTK_LOG_LEVEL": "warning"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def announced_address(process: subprocess.Popen[str]) -> str:
    """Wait until the service says where it is."""
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"page +(http://\S+)/", line):
            return found[1]
    raise AssertionError("the service ended before it was ready:\n" + "".join(said))
