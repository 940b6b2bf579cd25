"""The blocks of a large kernel on a cluster: the job's own process keeps the tiles, others compute them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ntkengine.kernels import KernelSpec
from ntkengine.spec import from_jsonable, to_jsonable
from service.compute.cluster import ClusterExecutor
from service.encoding import Message
from service.runs.tiling import Tiling, tiling_of

if TYPE_CHECKING:
    from torch import Tensor


def on_cluster(tiling: Tiling, spec: KernelSpec, budget: int, address: str) -> Tiling:
    """The same tiling, with a block at a time on each processor of the cluster at `address`.

    Raises:
        NoCluster: it cannot be joined.
    """
    import torch

    executor = ClusterExecutor(address)
    shared = executor.share(Message({"spec": to_jsonable(spec), "budget": budget}))

    def compute(rows: slice, columns: slice) -> Mapping[str, Tensor]:
        place = Message({"rows": [rows.start, rows.stop], "columns": [columns.start, columns.stop]})
        found = executor.submit(block, shared, place).result()
        return {name: torch.from_numpy(array) for name, array in found.arrays.items()}

    plan = replace(tiling.plan, workers=max(1, min(executor.cpus, tiling.plan.count)))
    return replace(tiling, block=compute, plan=plan)


def block(job: Message, place: Message) -> Message:
    """One block, on a machine of the cluster."""
    rows, columns = (slice(*place.header[name]) for name in ("rows", "columns"))
    found = _tiling(Request(job)).block(rows, columns)
    return Message({}, {name: tensor.numpy() for name, tensor in found.items()})


class Request:
    """A job, known by its bytes: a machine prepares what all of its blocks share only once."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self._bytes = message.pack()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)


@lru_cache(maxsize=2)
def _tiling(request: Request) -> Tiling:
    header = request.message.header
    return tiling_of(from_jsonable(KernelSpec, header["spec"]), header["budget"])
