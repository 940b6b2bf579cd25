"""Data sets that were added, each a directory of arrays with a description beside them.

A directory is whole from the moment it has its name, and never changes. The name says what is in it, so that
a job goes on with the data that it began with, whatever its owner calls by the same name later.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.encoding import dumps
from service.store.files import synchronise

ABOUT = "about.json"
PARTIAL = ".partial"
ABANDONED_SECONDS = 86_400.0

About = dict[str, Any]


class Datasets:
    """What was added, under `root`, by whom."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(self) -> None:
        """Make the directory, and remove what was begun there and left a day ago."""
        self.root.mkdir(parents=True, exist_ok=True)
        for path in self.root.glob(f"*{PARTIAL}"):
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

    def begin(self) -> Path:
        """A new directory for a data set that is on its way."""
        path = self.root / f"{uuid.uuid4().hex}{PARTIAL}"
        path.mkdir()
        return path

    def finish(self, partial: Path, about: About) -> About:
        """Give what is in `partial` its name; or drop it, if the same is there already."""
        about = {**about, "reference": f"{about['name']}~{about['digest'][:16]}"}
        (partial / ABOUT).write_text(dumps(about))
        for path in partial.iterdir():
            synchronise(path)
        try:
            partial.rename(self.root / about["reference"])
        except OSError:
            if (found := self._about(self.root / about["reference"])) is None:
                raise
            self.drop(partial)
            return found
        synchronise(self.root)
        return about

    def drop(self, partial: Path) -> None:
        """Remove what did not become a data set."""
        shutil.rmtree(partial, ignore_errors=True)

    def of(self, owner: str | None) -> list[About]:
        """The owner's data sets, oldest first."""
        found = [about for about in self._all() if about["owner"] == owner]
        return sorted(found, key=lambda about: (about["created_at"], about["reference"]))

    def find(self, owner: str | None, name: str) -> About | None:
        """The owner's data set of this name or reference."""
        named = (about for about in self.of(owner) if name in {about["name"], about["reference"]})
        return next(named, None)

    def delete(self, about: About) -> None:
        """Remove a data set; its name goes first, so that nobody finds half of one."""
        gone = self.begin()
        with suppress(FileNotFoundError):  # somebody was faster
            (self.root / about["reference"]).rename(gone / "gone")
        self.drop(gone)

    def _all(self) -> Iterator[About]:
        for path in self.root.glob("*~*"):
            if (about := self._about(path)) is not None:
                yield about

    def _about(self, path: Path) -> About | None:
        try:
            about: About = json.loads((path / ABOUT).read_text())
        except FileNotFoundError:
            return None
        return about
