"""Large kernels as the engine cuts them: what is computed, in which blocks, and what can be said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ntkengine.data import load
from ntkengine.gram import Entry, TilePlan
from ntkengine.kernels import Empirical, Infinite, KernelSpec

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


def tiling_of(spec: KernelSpec, budget: int) -> Tiling:
    """The tiling of a spec, with its inputs loaded."""
    import torch

    dtype = getattr(torch, spec.dtype)
    x1 = torch.as_tensor(load(spec.x1, "x"), dtype=dtype)
    x2 = None if spec.x2 is None else torch.as_tensor(load(spec.x2, "x"), dtype=dtype)
    return TILINGS[type(spec.of)](spec, x1, x2, budget)


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

    return Tiling(work.blocks(work.chain(budget)), work.entries(), plan, facts)


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
