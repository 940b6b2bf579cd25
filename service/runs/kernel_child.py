"""What the process of a large kernel does: compute the tiles that are missing, and say how far it is.

The store of tiles in the job's directory is its own checkpoint: a tile that is there is not computed again.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntkengine.errors import Cancelled, NumericalError, ResourceError
from ntkengine.gram import HasWriterError, StoredGram, TilePlan, gram_to_store
from ntkengine.kernels import KernelSpec
from ntkengine.spec import from_jsonable
from service.encoding import Message
from service.runs.kernel_cluster import on_cluster
from service.runs.preview import Preview
from service.runs.tiling import Block, Tiling, tiling_of
from service.settings import Settings
from service.store.files import JobFiles

if TYPE_CHECKING:
    from torch import Tensor


def tiles(request: Message) -> Iterator[Message]:
    """Compute the kernel that `request` describes, in the directory it names; a message a segment."""
    import torch

    job = request.header
    torch.set_num_threads(job["facts"]["threads"])
    spec = from_jsonable(KernelSpec, job["spec"])
    tiling = tiling_of(spec, job["facts"]["budget"])
    if (address := Settings().ray_address) is not None:
        tiling = on_cluster(tiling, spec, job["facts"]["budget"], address)
    begin = time.monotonic()
    files = JobFiles(Path(job["directory"]))
    preview = Preview(files)
    for done in segments(tiling, files, job["segment_seconds"]):
        preview.add_new_tiles()
        if done < tiling.plan.count:
            yield message(tiling, done)
    stored = StoredGram(files.gram)
    result = {
        **tiling.facts(),
        "diagnostics": diagnostics(stored, tiling),
        "sha256": stored.digest(),
        "processors": tiling.plan.workers,
        "seconds": time.monotonic() - begin,  # of this attempt
    }
    yield message(tiling, tiling.plan.count, result=result)


def message(tiling: Tiling, done: int, **more: Any) -> Message:
    """How far the job is."""
    total = tiling.plan.count
    counts = {"tiles": {"done": done, "total": total, "shape": tiling.plan.tile, "grid": tiling.plan.grid}}
    told: dict[str, Any] = {"points": [], "checkpoint": None, "outcome": None, "detail": {}}
    return Message({**told, "progress": done / total, "counts": counts, **more})


def segments(tiling: Tiling, files: JobFiles, seconds: float) -> Iterator[int]:
    """Compute tiles; each time `seconds` have passed, and at the end, say how many are done.

    Every segment is a call that goes on with what is missing, as after a kill; the first ends at once.
    """
    done, patience = 0, 0.0

    def progress(now: int, _total: int, _seconds: float) -> None:
        nonlocal done
        done = now

    files.directory.mkdir(parents=True, exist_ok=True)
    while done < tiling.plan.count:
        deadline = time.monotonic() + patience
        try:
            with suppress(Cancelled):
                gram_to_store(
                    finite(tiling.block),
                    tiling.entries,
                    tiling.plan,
                    files.gram,
                    progress=progress,
                    cancelled=lambda deadline=deadline: time.monotonic() >= deadline,  # type: ignore[misc]
                )
                done = tiling.plan.count
        except ResourceError as error:
            if "disk_bytes" in error.limit:  # others have taken what there was when the job was accepted
                raise OSError(errno.ENOSPC, str(error)) from error
            raise
        except HasWriterError:  # of a worker that was taken for lost: what it still computes is as good
            time.sleep(seconds)
            done = done_before(files, tiling.plan)
        if patience == 0.0:
            done = done_before(files, tiling.plan)
        patience = seconds
        yield done


def done_before(files: JobFiles, plan: TilePlan) -> int:
    """The tiles that an earlier attempt has left."""
    done = StoredGram(files.gram).done().ravel()
    return sum(bool(done[tile.index]) for tile in plan.tiles())


def finite(block: Block) -> Block:
    """The same blocks, refused where a number left the range of its type."""

    def checked(rows: slice, columns: slice) -> Mapping[str, Tensor]:
        values = block(rows, columns)
        for name, part in values.items():
            if not bool(part.isfinite().all()):
                raise NumericalError(
                    f"the {name} left the range of {str(part.dtype).removeprefix('torch.')}",
                    hint="scale the inputs to entries of order 1, or use float64",
                )
        return values

    return checked


def diagnostics(stored: StoredGram, tiling: Tiling) -> dict[str, Any]:
    """Of the NTK where it was asked for, if it is small enough that all eigenvalues are affordable."""
    import torch

    from ntkengine.analysis import NOT_A_GRAM_MATRIX, Diagnostics, diagnose
    from ntkengine.analysis.spectrum import LARGEST

    name = "ntk" if "ntk" in tiling.entries else next(iter(tiling.entries))
    plan = tiling.plan
    if not plan.symmetric:
        return asdict(NOT_A_GRAM_MATRIX)
    if plan.n1 > LARGEST or tiling.entries[name].shape:
        return asdict(Diagnostics(symmetric=True, lambda_min=None, condition_number=None, clipped=None))
    return asdict(diagnose(torch.as_tensor(stored.rows(name, 0, plan.n1))))
