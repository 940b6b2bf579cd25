"""Data sets: taken in piece by piece, read by a computing process, found by name."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from ntkengine.datasets import BUILT_IN
from ntkengine.pointers import pointer_to
from service.access.keys import ANYONE, Principal
from service.access.quotas import no_room
from service.encoding import Message
from service.errors import Offence, ServiceError, shortened
from service.runs.clock import now
from service.runs.dataset_files import keep
from service.runs.waiting import Waiting
from service.settings import Settings
from service.store.datasets import About, Datasets

RESERVED_BYTES = 100 * 2**20  # of the disk, for the database and what else is going on


class DataSets:
    """The data sets of `asker`: those of others are not found here."""

    def __init__(
        self, store: Datasets, waiting: Waiting, settings: Settings, asker: Principal = ANYONE
    ) -> None:
        self._store = store
        self._waiting = waiting
        self._settings = settings
        self._asker = asker

    def seen_by(self, asker: Principal) -> DataSets:
        """The same store, of which only the asker's are found."""
        return DataSets(self._store, self._waiting.seen_by(asker), self._settings, asker)

    async def add(
        self, name: str, pieces: AsyncIterator[bytes], announced: int, how: dict[str, Any]
    ) -> About:
        """Keep what comes in pieces, of which so many bytes were announced.

        Args:
            how: how the file is to be understood, as `dataset_files.Asked` has it.

        Raises:
            ServiceError: the name is taken, the file cannot be read, there is too little room.
        """
        if name in BUILT_IN:
            raise ServiceError("name-taken", f"{name} is built in.")
        self._check_room(announced)
        partial = await run_in_threadpool(self._store.begin)
        try:
            sent = partial.resolve() / "sent"
            with _full_disk_told():
                await _receive(pieces, sent)
            told = {"path": str(sent), "most_bytes": self._settings.max_dataset_bytes, **how}
            kept = await self._waiting.answer(keep, Message(told))
            owner = self._asker.name
            told = kept.header | {"digest": _of_owner(owner, kept.header["digest"])}
            about = {"name": name, "owner": owner, "created_at": now(), **told}
            return await run_in_threadpool(self._finish, partial, about)
        finally:
            await run_in_threadpool(self._store.drop, partial)

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self._settings.data_dir).free - RESERVED_BYTES
        if needed > free:
            estimate, limit = {"disk_bytes": needed}, {"disk_bytes": max(0, free)}
            raise ServiceError("insufficient-storage", "The disk is full.", estimate=estimate, limit=limit)

    def _finish(self, partial: Path, about: About) -> About:
        """Give it its name, unless another has it or the key has too much."""
        others = self.all()
        same = next((other for other in others if other["name"] == about["name"]), None)
        if same is not None and same["digest"] == about["digest"]:
            return same
        if same is not None:
            raise ServiceError("name-taken", f"Another data set of yours is called {about['name']}.")
        kept, most = sum(each["bytes"] for each in others), self._settings.dataset_bytes_per_key
        if kept + about["bytes"] > most:
            raise no_room("data sets", kept, about["bytes"], most)
        with _full_disk_told():
            return self._store.finish(partial, about)

    def all(self) -> list[About]:
        """Oldest first."""
        return self._store.of(self._asker.name)

    def get(self, name: str) -> About:
        """The data set of this name or reference.

        Raises:
            ServiceError: there is none.
        """
        about = self._store.find(self._asker.name, name)
        if about is None:
            hint = "GET /datasets lists those there are."
            raise ServiceError("not-found", f"There is no data set {shortened(name)} of yours.", hint=hint)
        return about

    def delete(self, name: str) -> None:
        """Remove the data set of this name or reference.

        Raises:
            ServiceError: there is none.
        """
        self._store.delete(self.get(name))

    def put_references(self, value: Any, *keys: str) -> Any:
        """A decoded request in which each name of a data set says which one of that name is meant.

        Data sets stand in fields of objects, or among the values of a sweep's axis; lists without objects
        hold numbers, and are not read.

        Raises:
            ServiceError: there is no such data set; with the pointer.
        """
        if isinstance(value, list) and any(isinstance(each, dict) for each in value):
            return [self.put_references(each, *keys, str(index)) for index, each in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if (
            value.get("kind") == "dataset"
            and isinstance(name := value.get("name"), str)
            and name not in BUILT_IN
        ):
            return {**value, "name": self._reference(name, *keys)}
        return {key: self.put_references(inner, *keys, key) for key, inner in value.items()}

    def _reference(self, name: str, *keys: str) -> str:
        try:
            return str(self.get(name)["reference"])
        except ServiceError as error:
            known = [*BUILT_IN, *(about["name"] for about in self.all())]
            hint = f"Use one of {', '.join(known[:20])}, or add it by POST /datasets."
            wrong = Offence(pointer=pointer_to(*keys, "name"), detail=error.detail, hint=hint)
            raise ServiceError("invalid", error.detail, offences=[wrong]) from None


def _of_owner(owner: str | None, digest: str) -> str:
    """Two keys may bring the same: what one of them deletes, the other one keeps."""
    return hashlib.sha256(f"{owner or ''}:{digest}".encode()).hexdigest()


async def _receive(pieces: AsyncIterator[bytes], path: Path) -> None:
    with await run_in_threadpool(path.open, "wb") as file:
        async for piece in pieces:
            await run_in_threadpool(file.write, piece)


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise ServiceError("insufficient-storage", "The disk became full.") from None
