"""What the process of a large kernel does: compute the tiles that are missing, and say how far it is.

The store of tiles in the job's directory is its own checkpoint: a tile that is there is not computed again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntkengine.data import load
from ntkengine.errors import Cancelled, NumericalError
from ntkengine.gram import Entry, HasWriterError, StoredGram, TilePlan, gram_to_store
from ntkengine.kernels import Empirical, Infinite, KernelSpec
from ntkengine.spec import from_jsonable
from service.encoding import Message
from service.runs.preview import Preview
from service.store.files import JobFiles

if TYPE_CHECKING:
    from torch import Tensor

Block = Callable[[slice, slice], Mapping[str, "Tensor"]]


@dataclass(frozen=True)
class Tiling:
    """A kernel as the engine cuts it, and what can be said of it when all is computed."""

    block: Block
    entries: Mapping[str, Entry]
    plan: TilePlan
    facts: Callable[[], dict[str, Any]]


def tiles(request: Message) -> Iterator[Message]:
    """Compute the kernel that `request` describes, in the directory it names; a message a segment."""
    import torch

    job = request.header
    torch.set_num_threads(job["facts"]["threads"])
    spec = from_jsonable(KernelSpec, job["spec"])
    dtype = getattr(torch, spec.dtype)
    x1 = torch.as_tensor(load(spec.x1, "x"), dtype=dtype)
    x2 = None if spec.x2 is None else torch.as_tensor(load(spec.x2, "x"), dtype=dtype)
    tiling = TILINGS[type(spec.of)](spec, x1, x2, job["facts"]["budget"])
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


def infinite(spec: KernelSpec, x1: Tensor, x2: Tensor | None, budget: int) -> Tiling:
    """At infinite width."""
    import torch

    from ntkengine.infinite.kernel import Work

    of: Any = spec.of
    work = Work.of(spec.model, x1, x2, of.widths, of.get)
    plan = work.plan(budget, in_memory=False)

    def facts() -> dict[str, Any]:
        answer = work.answer({}, plan)
        sampled = answer.method == "quadrature"
        rounding = 100 * torch.finfo(x1.dtype).eps  # as `compute_kernel` tells it
        bound = answer.entry_error if answer.entry_error > rounding else 0.0
        method = {
            "kind": answer.method,
            "error_bound": None if sampled else bound,
            "stderr": answer.entry_error if sampled else None,
        }
        return {"method": method, "scaling": answer.scaling.to_dict(), "warnings": list(answer.warnings)}

    return Tiling(work.block, work.entries(), plan, facts)


def empirical(spec: KernelSpec, x1: Tensor, x2: Tensor | None, budget: int) -> Tiling:
    """Of one network."""
    from ntkengine.empirical.kernel import Blocks, with_all_threads
    from ntkengine.empirical.plan import entry_of

    of: Any = spec.of
    in_shape = tuple(x1.shape[1:])
    network = spec.model.network(in_shape, seed=of.seed or 0, weights=of.weights, dtype=x1.dtype)
    blocks = Blocks.of(network, x1, x2, of.outputs, of.implementation, None, False, budget, in_memory=False)
    method = {"kind": "empirical", "error_bound": 0.0, "stderr": None}
    facts: dict[str, Any] = {"method": method, "scaling": None, "warnings": []}
    entries = {"ntk": entry_of(blocks.work)}
    return Tiling(blocks.total, entries, with_all_threads(blocks.tiles), lambda: facts)


TILINGS: Mapping[type, Callable[[KernelSpec, Any, Any, int], Tiling]] = {
    Infinite: infinite,
    Empirical: empirical,
}
