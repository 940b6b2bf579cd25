"""Choosing an implementation and its blocks: a pure function of shapes and a byte budget. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ntkengine.empirical.implementation import Cost, Implementation, LayerWork, Work
from ntkengine.empirical.jacobian_contraction import JacobianContraction
from ntkengine.empirical.ntk_vector_products import NTKVectorProducts
from ntkengine.empirical.structured_derivatives import StructuredDerivatives
from ntkengine.errors import ResourceError, UnsupportedError
from ntkengine.gram import Entry, TilePlan, plan_tiles

IMPLEMENTATIONS: Mapping[str, Implementation] = {
    each.name: each for each in (StructuredDerivatives(), JacobianContraction(), NTKVectorProducts())
}

MEMORY_BUDGET = 2 * 1024**3
ONE_BY_ONE = "; its operations cannot be batched, so that backward passes go one output at a time"
SHARES = 3  # blocks held at a time: a layer's share, the sum, and a copy


@dataclass(frozen=True)
class Plan:
    """How a kernel will be computed: estimates, not measurements."""

    implementation: str
    chunk: int  # rows of x1 (and of x2) whose derivatives are held at a time
    flops: float
    bytes: int
    reason: str
    layers: Mapping[str, str] = field(default_factory=dict)  # how each layer's share is computed

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan(
    layers: Sequence[LayerWork], work: Work, *, implementation: str = "auto", budget: int = MEMORY_BUDGET
) -> Plan:
    """The implementation of least estimated time that supports the network within the budget, or the one
    that was asked for.

    Raises:
        UnsupportedError: the implementation asked for does not support the network.
        ResourceError: the result, or one row, does not fit the budget in any of them.
    """
    return plan_with_tiles(layers, work, implementation=implementation, budget=budget)[0]


def plan_with_tiles(
    layers: Sequence[LayerWork],
    work: Work,
    *,
    implementation: str = "auto",
    budget: int = MEMORY_BUDGET,
    in_memory: bool = True,
    kernels: int = 1,
) -> tuple[Plan, TilePlan]:
    """`plan`, and the blocks that it stands for, of so many kernels at a time."""
    costs = {name: each.cost(layers, work) for name, each in IMPLEMENTATIONS.items() if each.supports(layers)}
    if implementation != "auto" and implementation not in costs:
        raise UnsupportedError(
            f"{implementation} has no form for any layer of this network",
            pointer="/of/implementation",
            hint=f"use one of auto, {', '.join(costs)}",
        )
    asked = [implementation] if implementation in costs else _by_time(costs)
    refusals: list[ResourceError] = []
    for name in asked:
        try:
            tiles = tiles_of(work, costs[name].bytes_per_row, budget, in_memory=in_memory, kernels=kernels)
        except ResourceError as refusal:
            refusals.append(refusal)
            continue
        reason = "as asked" if implementation == name else _reason(costs, asked[: len(refusals)])
        reason += "" if work.batched else ONE_BY_ONE
        methods = IMPLEMENTATIONS[name].methods(layers)
        return Plan(name, max(tiles.block), costs[name].flops, tiles.bytes, reason, methods), tiles
    raise min(refusals, key=lambda refusal: max(refusal.estimate.values()))


def _by_time(costs: Mapping[str, Cost]) -> list[str]:
    """Names of implementations, the one of least estimated time first."""
    return sorted(costs, key=lambda name: costs[name].flops + IMPLEMENTATIONS[name].overhead)


def _reason(costs: Mapping[str, Cost], too_large: Sequence[str]) -> str:
    """Why the choice fell as it did."""
    beyond = f" of those that fit the budget ({', '.join(too_large)}: not)" if too_large else ""
    flops = ", ".join(f"{name} {cost.flops:.2g}" for name, cost in costs.items())
    return f"least estimated time{beyond}; flops: {flops}"


def entry_of(work: Work) -> Entry:
    """What is kept of a pair of inputs."""
    dtype: Literal["float32", "float64"] = "float32" if work.itemsize == 4 else "float64"
    return Entry(work.form.shape(1, 1, work.k)[2:], dtype)


def tiles_of(work: Work, bytes_per_row: int, budget: int, *, in_memory: bool, kernels: int = 1) -> TilePlan:
    """The blocks: as large as the budget allows, for rows are what costs."""
    entry = entry_of(work)
    return plan_tiles(
        {f"ntk {i}": entry for i in range(kernels)},
        work.n1,
        None if work.symmetric else work.n2,
        bytes_per_pair=(SHARES + kernels - 1) * entry.bytes,
        bytes_per_row=bytes_per_row,
        budget=budget,
        in_memory=in_memory,
        cache=budget,
    )
