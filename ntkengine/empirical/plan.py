"""Choosing an implementation and its chunk: a pure function of shapes and a byte budget. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ntkengine.empirical.implementation import Implementation, Work
from ntkengine.empirical.jacobian_contraction import JacobianContraction
from ntkengine.empirical.structured_derivatives import StructuredDerivatives
from ntkengine.errors import UnsupportedError
from ntkengine.layer import Site

IMPLEMENTATIONS: Mapping[str, Implementation] = {
    each.name: each for each in (StructuredDerivatives(), JacobianContraction())
}

MEMORY_BUDGET = 2 * 1024**3


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


def plan(site: Site, work: Work, *, implementation: str = "auto", budget: int = MEMORY_BUDGET) -> Plan:
    """The implementation of least estimated time that supports the network, or the one that was asked for.

    Raises:
        UnsupportedError: the implementation asked for does not support a layer.
    """
    costs = {name: each.cost(site, work) for name, each in IMPLEMENTATIONS.items() if each.supports(site)}
    if implementation == "auto":
        name = min(costs, key=lambda each: costs[each].flops + IMPLEMENTATIONS[each].overhead)
        reason = "least estimated time; flops: " + ", ".join(
            f"{each} {costs[each].flops:.2g}" for each in costs
        )
    elif implementation in costs:
        name, reason = implementation, "as asked"
    else:
        raise UnsupportedError(
            f"{implementation} does not support every layer of this network",
            pointer="/of/implementation",
            hint=f"use one of auto, {', '.join(costs)}",
        )
    per_row = costs[name].bytes_per_row
    held = 2 * per_row  # the rows of x1 and of x2
    chunk = max(1, min(max(work.n1, work.n2), budget // held))
    layers = IMPLEMENTATIONS[name].methods(site)
    return Plan(name, chunk, costs[name].flops, chunk * held + work.result_bytes, reason, layers)
