"""What a kernel costs, before it is computed: in memory while the client waits, or as a job on disk."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ntkengine.data import inputs_shape
from ntkengine.empirical.implementation import Work, layers_of
from ntkengine.empirical.plan import Plan, plan_with_tiles
from ntkengine.errors import ResourceError, UnsupportedError
from ntkengine.kernels import Empirical, Infinite, KernelSpec, MonteCarlo
from ntkengine.layers.windows import known_sizes
from ntkengine.outputs import OUTPUT_FORMS
from ntkengine.spec import to_jsonable
from service.runs.limits import check_kernel, check_kernel_job, check_model
from service.settings import Settings

VERSION = importlib.metadata.version("ntkengine")

# What an ordinary core does in a second, roughly, in this program's own count of flops: no promise.
FLOPS_PER_SECOND = {Infinite: 5e9, Empirical: 2e10, MonteCarlo: 2e10}
DISK_BYTES_PER_SECOND = 300e6
START_SECONDS = 0.05


def shape(spec: KernelSpec) -> tuple[int, int]:
    """Rows and columns."""
    rows = inputs_shape(spec.x1, "/x1")[0]
    return rows, rows if spec.x2 is None else inputs_shape(spec.x2, "/x2")[0]


def check(spec: KernelSpec, settings: Settings) -> None:
    """Refuse what is no sound spec, has no tiles, or is over the limits of jobs.

    Raises:
        EngineError: with the pointer of what is wrong, or the estimate and the limit.
    """
    check_model(spec.model, settings)
    check_parts(spec)
    _check_tiles(spec)
    plan = job_plan(spec, settings)
    check_kernel_job(shape(spec), plan.flops, disk_bytes(spec), settings)


def check_parts(spec: KernelSpec) -> None:
    """The spec's own check; what is too large for memory may still fit on the disk."""
    try:
        spec.check()
    except ResourceError:
        _check_tiles(spec)


def has_tiles(spec: KernelSpec) -> bool:
    """Whether the kernel can be computed in tiles, and so be a job."""
    try:
        _check_tiles(spec)
    except UnsupportedError:
        return False
    return True


def _check_tiles(spec: KernelSpec) -> None:
    """Refuse what the engine does not compute in tiles on disk."""
    _TILED[type(spec.of)](spec.of)


def _infinite(of: Infinite) -> None:
    if of.outputs != "mean":
        raise UnsupportedError(
            f"outputs {of.outputs!r} of an infinite-width kernel are not computed as a job",
            pointer="/of/outputs",
            hint='ask for "mean": all others are this kernel times a constant',
        )


def _empirical(of: Empirical) -> None:
    if of.get != ("ntk",):
        raise UnsupportedError(
            "the NNGP of one network is not computed as a job",
            pointer="/of/get",
            hint='ask for ["ntk"]; the NNGP is the product of the outputs, which a run with 0 steps records',
        )


def _monte_carlo(_of: MonteCarlo) -> None:
    raise UnsupportedError(
        "a Monte-Carlo kernel is not computed as a job",
        pointer="/of/kind",
        hint="ask for fewer points or a larger rtol, so that it is small enough to wait for",
    )


_TILED: Mapping[type, Any] = {Infinite: _infinite, Empirical: _empirical, MonteCarlo: _monte_carlo}


def positions(spec: KernelSpec) -> int:
    """Numbers that one kernel has for a pair of inputs."""
    site = spec.model.place(inputs_shape(spec.x1, "/x1")[1:])
    spatial = math.prod(known_sizes(site.out_shape)) ** 2
    if type(spec.of) is Infinite:
        return spatial
    form = OUTPUT_FORMS[spec.of.outputs]
    k = math.prod((*known_sizes(site.out_shape), site.known_size(site.out_shape)))
    return math.prod(form.shape(1, 1, k)[2:])


def disk_bytes(spec: KernelSpec) -> float:
    """Of all arrays, without what tiles at the ends add."""
    itemsize = np.dtype(spec.dtype).itemsize
    return float(math.prod(shape(spec)) * positions(spec) * itemsize * len(spec.of.get))


def job_plan(spec: KernelSpec, settings: Settings) -> Plan:
    """How it is computed on disk: in blocks within the budget of memory."""
    plan: Plan = _PLANS[type(spec.of)](spec, settings)
    return plan


def _blockwise(spec: KernelSpec, settings: Settings) -> Plan:
    return replace(spec.plan(), bytes=settings.job_memory_bytes)


def _empirical_on_disk(spec: KernelSpec, settings: Settings) -> Plan:
    of = spec.of
    site = spec.model.check_finite(inputs_shape(spec.x1, "/x1")[1:])
    k = math.prod((*known_sizes(site.out_shape), site.known_size(site.out_shape)))
    n1, n2 = shape(spec)
    symmetric = spec.x2 is None
    work = Work(n1, n2, k, np.dtype(spec.dtype).itemsize, OUTPUT_FORMS[of.outputs], symmetric=symmetric)
    budget = settings.job_memory_bytes
    chosen = of.implementation  # type: ignore[union-attr]
    return plan_with_tiles(layers_of(site), work, implementation=chosen, budget=budget, in_memory=False)[0]


_PLANS: Mapping[type, Any] = {Infinite: _blockwise, Empirical: _empirical_on_disk, MonteCarlo: _blockwise}


def seconds(spec: KernelSpec, flops: float, written: float) -> float:
    """A guess of the wall time: of the arithmetic, half of it where x2 is x1, and of the disk."""
    share = 0.5 if spec.x2 is None else 1.0
    rate = FLOPS_PER_SECOND[type(spec.of)]
    return START_SECONDS + share * flops / rate + written / DISK_BYTES_PER_SECOND


def facts(spec: KernelSpec, settings: Settings) -> dict[str, Any]:
    """What a job is known by; what its tiles depend on is in it, so that settings may change meanwhile."""
    of = {name: value for name, value in to_jsonable(spec.of).items() if name != "weights"}
    model = to_jsonable(spec.model)
    n1, n2 = shape(spec)
    form = (n1, n2) if positions(spec) == 1 else (n1, n2, positions(spec))
    return {
        "request": {
            "model": model,
            "of": of,
            "dtype": spec.dtype,
            "x1": n1,
            "x2": None if spec.x2 is None else n2,
        },
        "shape": list(form),
        "plan": as_job(spec, settings),
        "budget": settings.job_memory_bytes,
        "threads": settings.job_threads,
    }


def as_job(spec: KernelSpec, settings: Settings) -> dict[str, Any]:
    """The plan of a job, with what it writes and how long it may take."""
    plan, written = job_plan(spec, settings), disk_bytes(spec)
    return {**plan.to_dict(), "disk_bytes": written, "seconds": seconds(spec, plan.flops, written)}


def estimate(spec: KernelSpec, settings: Settings) -> dict[str, Any]:
    """Cost and plan of a kernel, and whether it would be answered at once or as a job.

    Raises:
        EngineError: the spec does not hold together, or is over all limits.
    """
    check_model(spec.model, settings)
    check_parts(spec)
    try:
        check_kernel(spec, settings)
    except ResourceError:
        if not has_tiles(spec):
            raise
        check(spec, settings)
        return {"answered": "as a job", **as_job(spec, settings), "shape": list(shape(spec))}
    plan = spec.plan()
    took = seconds(spec, plan.flops, 0.0)
    costs = {**plan.to_dict(), "disk_bytes": 0, "seconds": took}
    return {"answered": "at once", **costs, "shape": list(shape(spec))}
