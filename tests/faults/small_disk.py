"""A real file system that is soon full: a tmpfs of a few megabytes, mounted for one test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILLER = "filler"


class SmallDisk:
    """The mounted file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fill(self) -> None:
        """Leave no byte of it, and none of what somebody frees at the same moment."""
        with (self.root / FILLER).open("ab", buffering=0) as file:
            for size in (2**16, 2**12, 1):
                while self._write(file.fileno(), size):
                    pass

    @staticmethod
    def _write(descriptor: int, size: int) -> int:
        try:
            return os.write(descriptor, bytes(size))
        except OSError:
            return 0

    def free(self) -> None:
        """Have all the room again."""
        (self.root / FILLER).unlink(missing_ok=True)


@contextmanager
def mounted(root: Path, megabytes: int) -> Iterator[SmallDisk]:
    """The file system, gone afterwards; needs root.

    Raises:
        PermissionError: it cannot be mounted here.
    """
    root.mkdir(mode=0o777)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "ntk-small-disk", str(root)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if made.returncode:
        raise PermissionError(made.stderr)
    try:
        yield SmallDisk(root)
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True, timeout=20)
