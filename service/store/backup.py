"""Copies of the database and of the files it refers to that belong together, taken while both are written.

Files are written whole, never changed, and there before the database refers to them. Only checkpoints ever
go, when newer ones have come: so the files are taken before and after the database, and all again while a
checkpoint is missed that it refers to. Should it be missed to the last, its job begins again, with the same
points, for training is deterministic. The record of a large kernel's tiles alone is written in place: it is
copied, once, and the tiles that it knows are there by the second taking of the files.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from ntkengine.gram.store import RECORD
from service.store.files import synchronise

DATABASE = "ntk.sqlite"
PARTIAL = ".partial"
TRIES = 5
# Of no use to another server: a lock, a secret that signs tickets for a minute, what was not yet whole.
LEFT_OUT = ("server.lock", "tickets.secret")


class NotCopied(Exception):
    """There is no copy, and why."""


def backup(data: Path, database: Path, destination: Path) -> None:
    """Make `destination`, a copy of the database and of all files under `data`.

    Files on the same file system are links, but for those that are written in place: nobody changes the
    others, and they stay when the service removes its own.

    Raises:
        NotCopied: there is nothing to copy, or `destination` exists.
        OSError: the disk is full or does not let us.
    """
    if not database.is_file():
        raise NotCopied(f"there is no database {database}. Say where the service keeps it: --data-dir.")
    if destination.exists():
        raise NotCopied(f"{destination} exists; name a new directory.")
    partial = destination.with_name(f".{destination.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for _ in range(TRIES):
        _link_files(data, database, partial)
        _copy_database(database, partial / DATABASE)
        _link_files(data, database, partial)
        if not _missed(partial):
            break
    synchronise(partial / DATABASE)
    partial.rename(destination)
    synchronise(destination.parent)


def restore(source: Path, data: Path, database: Path) -> None:
    """Bring a backup into `data`; the database comes last, so that one broken off can be begun again.

    Raises:
        NotCopied: `source` is no whole backup, or there is a database already.
        OSError: the disk is full or does not let us.
    """
    if not (source / DATABASE).is_file():
        raise NotCopied(f"{source} is no backup: it has no {DATABASE}.")
    if database.exists():
        raise NotCopied(f"there is a database already: {database}. Move it away, or name another directory.")
    for path in _files(source, source / DATABASE):
        _place(path, data / path.relative_to(source), shutil.copy2)
    database.parent.mkdir(parents=True, exist_ok=True)
    partial = database.with_name(f".{database.name}.partial")
    _copy_database(source / DATABASE, partial)
    synchronise(partial)
    partial.rename(database)
    synchronise(database.parent)


def _files(root: Path, database: Path) -> Iterator[Path]:
    """The files to take: neither the database with its logs, nor what is of no use elsewhere."""
    for directory, inner, names in os.walk(root):
        inner[:] = [name for name in inner if not name.endswith(PARTIAL)]
        for name in names:
            path = Path(directory, name)
            is_database = path.parent == database.parent and name.startswith(database.name)
            if not is_database and name not in LEFT_OUT and not name.endswith(PARTIAL):
                yield path


def _link_files(data: Path, database: Path, destination: Path) -> None:
    for path in _files(data.resolve(), database.resolve()):
        if destination.resolve() in path.parents:
            continue
        try:
            _place(path, destination / path.relative_to(data.resolve()), _link)
        except FileNotFoundError:  # it has gone meanwhile
            continue


def _place(path: Path, target: Path, put: Callable[[Path, Path], object]) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        put(path, target)


def _link(path: Path, target: Path) -> None:
    if path.name == RECORD:
        shutil.copy2(path, target)
        return
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copy2(path, target)


def _copy_database(source: Path, target: Path) -> None:
    """A snapshot of the database, complete by itself, while others write to it."""
    target.unlink(missing_ok=True)
    with closing(_read_only(source)) as old, closing(sqlite3.connect(target)) as new:
        try:
            old.backup(new)
            (found,) = new.execute("PRAGMA quick_check(1)").fetchone()
            new.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.DatabaseError as error:
            raise NotCopied(f"the database cannot be read: {error}.") from None
    if found != "ok":
        raise NotCopied(f"the database is damaged: {found}.")


def _read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)


def _missed(copy: Path) -> set[str]:
    """Checkpoints that the copied database refers to and that were not copied."""
    with closing(_read_only(copy / DATABASE)) as database:
        wanted = {digest for (digest,) in database.execute("SELECT digest FROM checkpoints")}
    return wanted - {path.stem for path in copy.rglob("checkpoints/*")}
