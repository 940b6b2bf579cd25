"""Arrays and checkpoints as files: written aside, synchronised, renamed, named by their digest.

Imported by the processes that compute, so it knows no database.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np

from service.encoding import Array, npy, npz


class DamagedFile(Exception):
    """A file's content is not what its name says."""


def write_durably(path: Path, data: bytes) -> None:
    """Write `data` so that after a crash or power loss `path` holds all of it or does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:  # on a full disk, half a file is in the way of all others
        partial.unlink(missing_ok=True)
        raise
    synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class JobFiles:
    """The files of one job, under a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def gram(self) -> Path:
        """Where the tiles of a large kernel are."""
        return self.directory / "gram"

    @property
    def preview(self) -> Path:
        """The preview of a large kernel, an `.npz`."""
        return self.directory / "preview.npz"

    def save_array(self, array: Array) -> str:
        """Keep `array`; return the digest under which it is found."""
        return self._save("arrays", "npy", npy(array))

    def array_bytes(self, digest: str) -> bytes:
        """The `.npy` file with this digest.

        Raises:
            FileNotFoundError: there is none.
        """
        return self._path("arrays", digest, "npy").read_bytes()

    def save_checkpoint(self, arrays: dict[str, Array]) -> str:
        """Keep a checkpoint; return its digest."""
        return self._save("checkpoints", "npz", npz(arrays))

    def load_checkpoint(self, digest: str) -> dict[str, Array]:
        """The checkpoint with this digest.

        Raises:
            FileNotFoundError: there is none.
            DamagedFile: its bytes have changed since they were written.
        """
        data = self._path("checkpoints", digest, "npz").read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise DamagedFile(f"checkpoint {digest} has changed on disk")
        with np.load(BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def has_checkpoint(self, digest: str) -> bool:
        """Whether the checkpoint can be loaded and is intact.

        A damaged one is removed: should the same come again, it would be taken for written already.
        """
        try:
            self.load_checkpoint(digest)
        except FileNotFoundError:
            return False
        except DamagedFile:
            self.drop_checkpoint(digest)
            return False
        return True

    def drop_checkpoint(self, digest: str) -> None:
        """Remove a checkpoint that nothing refers to any more."""
        self._path("checkpoints", digest, "npz").unlink(missing_ok=True)

    def sweep(self, digests: set[str]) -> None:
        """Remove what a killed writer left; only while no process writes for this job."""
        for path in (self.directory / "checkpoints").glob("*"):
            if path.name.removesuffix(".npz") not in digests:
                path.unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes of all files."""
        size = 0
        for directory, _, names in os.walk(self.directory):
            for name in names:
                with suppress(FileNotFoundError):  # a process that was stopped may still tidy up
                    size += Path(directory, name).stat().st_size
        return size

    def delete(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _save(self, folder: str, suffix: str, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(folder, digest, suffix)
        if not path.exists():
            write_durably(path, data)
        return digest

    def _path(self, folder: str, digest: str, suffix: str) -> Path:
        return self.directory / folder / f"{digest}.{suffix}"


class Files:
    """The files of all jobs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, job_id: str) -> JobFiles:
        """The files of one job."""
        return JobFiles(self.root / job_id)
