"""Limits, checked on a spec before any work starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ntkengine.data import Dataset, shape_of
from ntkengine.dynamics import RunSpec
from ntkengine.errors import ResourceError
from ntkengine.influence import InfluenceSpec
from ntkengine.kernels import KernelSpec
from ntkengine.model import Model
from ntkengine.onnx_kernels import OnnxKernelSpec
from ntkengine.predict import PredictSpec
from ntkengine.regime import OnnxRegimeSpec, RegimeSpec
from ntkengine.spec import to_jsonable
from ntkengine.sweeps import SweepSpec
from service.settings import Settings

FEW_LAYERS = 16


def check_model(model: Model, settings: Settings) -> None:
    """Refuse a network that is too wide or too deep.

    Raises:
        ResourceError: with the layer's pointer, the estimate and the limit.
    """
    layers = list(_layers("/model/layers", to_jsonable(model)["layers"], 1))
    _check("/model/layers", "layers", sum(times for *_, times in layers), settings.max_depth)
    for pointer, layer, _ in layers:
        _check(f"{pointer}/width", "width", layer.get("width") or 0, settings.max_width)


def is_quick(spec: KernelSpec) -> bool:
    """Whether a spec is checked faster than a thread is found for it: it has few layers and no data sets."""
    few = sum(times for *_, times in _layers("", to_jsonable(spec.model)["layers"], 1)) <= FEW_LAYERS
    return few and not any(isinstance(inputs, Dataset) for inputs in (spec.x1, spec.x2))


def check_kernel(spec: KernelSpec, settings: Settings) -> None:
    """Refuse a kernel that would take too long for an answer while the client waits, or too much memory.

    Raises:
        ResourceError: with the estimate and the limit.
    """
    for name, inputs in (("x1", spec.x1), ("x2", spec.x2)):
        rows = 0 if inputs is None else shape_of(inputs, "x")[0]
        _check(f"/{name}", "points", rows, settings.max_points)
    plan = spec.plan()
    _check("", "flops", plan.flops, settings.max_flops)
    _check("", "bytes", plan.bytes, settings.max_bytes)


def check_onnx_kernel(spec: OnnxKernelSpec, settings: Settings) -> None:
    """Refuse more points than an answer can wait for; what they cost is known once the file is read.

    Raises:
        ResourceError: with the estimate and the limit.
    """
    for name, inputs in (("x1", spec.x1), ("x2", spec.x2)):
        rows = 0 if inputs is None else shape_of(inputs, "x")[0]
        _check(f"/{name}", "points", rows, settings.max_points)


def check_kernel_job(shape: tuple[int, int], flops: float, written: float, settings: Settings) -> None:
    """Refuse a kernel that would take too long, or too much of the disk, even as a job.

    Raises:
        ResourceError: with the estimate and the limit.
    """
    for name, rows in zip(("x1", "x2"), shape, strict=True):
        _check(f"/{name}", "points", rows, settings.max_job_points)
    _check("", "flops", flops, settings.max_job_flops)
    _check("", "bytes on disk", written, settings.max_kernel_disk_bytes)


def check_prediction(spec: PredictSpec, settings: Settings) -> None:
    """Refuse a prediction that would take too long for an answer while the client waits, or too much memory.

    Raises:
        ResourceError: with the estimate and the limit.
    """
    _check("/data", "points", shape_of(spec.data.y, "y")[0] + spec.source.tests, settings.max_points)
    plan = spec.plan()
    _check("", "flops", plan["flops"], settings.max_flops)
    _check("", "bytes", plan["bytes"], settings.max_bytes)


def check_influence(spec: InfluenceSpec, settings: Settings) -> None:
    """Refuse an influence whose two trainings would take too long for an answer while the client waits.

    Raises:
        ResourceError: with the estimate and the limit.
    """
    rows = shape_of(spec.data.x, "x")[0] + shape_of(spec.points, "x")[0]
    _check("/data/x", "points", rows, settings.max_points)
    plan = spec.run(spec.data, seed=spec.seed).plan()
    _check("/training", "flops", 2 * plan["flops"], settings.max_flops)
    _check("", "bytes", plan["bytes"], settings.max_bytes)


def check_whole_run(spec: RunSpec, settings: Settings) -> None:
    """Refuse a run that does not hold together, or is over a limit.

    Raises:
        EngineError: with the pointer of what is wrong, or the estimate and the limit.
    """
    check_model(spec.model, settings)  # first: the rest takes longer the larger the network is
    spec.check()
    check_run(spec, settings)


def check_run(spec: RunSpec, settings: Settings) -> None:
    """Refuse a run that would take too long or too much memory.

    Raises:
        ResourceError: with the estimate and the limit.
    """
    _check("/data/x", "points", shape_of(spec.data.x, "x")[0], settings.max_job_points)
    plan = spec.plan()
    _check("/training", "flops", plan["flops"], settings.max_job_flops)
    _check("/record", "bytes held", plan["bytes"], settings.max_bytes)
    _check("/record", "bytes kept", plan["bytes_kept"], settings.max_bytes)


def check_combinations(spec: SweepSpec, settings: Settings) -> None:
    """Refuse a sweep of too many runs, before they are looked at.

    Raises:
        ResourceError: with the estimate and the limit.
    """
    _check("/axes", "combinations", spec.count, settings.max_combinations)


def check_sweep(spec: SweepSpec, settings: Settings) -> None:
    """Refuse a sweep whose runs, each of which is allowed, take too much together.

    Raises:
        ResourceError: with the estimate and the limit.
    """
    plan = spec.plan()
    _check("/axes", "flops", plan["flops"], settings.max_job_flops)
    _check("/axes", "bytes kept", plan["bytes_kept"], settings.max_bytes)


def check_regime(spec: RegimeSpec, settings: Settings) -> None:
    """Refuse a regime report that would take too long or too much memory.

    Raises:
        ResourceError: with the estimate and the limit.
    """
    for index, width in enumerate(spec.widths or ()):
        _check(f"/widths/{index}", "width", width, settings.max_width)
    _check("/data/x", "points", shape_of(spec.data.x, "x")[0], settings.max_points)
    plan = spec.plan()
    _check("", "flops", plan["flops"], settings.max_job_flops)
    _check("", "bytes", plan["bytes"], settings.max_bytes)


def check_onnx_regime(spec: OnnxRegimeSpec, settings: Settings) -> None:
    """Refuse more points than a kernel may have here; what they cost is known once the file is read.

    Raises:
        ResourceError: with the estimate and the limit.
    """
    _check("/data/x", "points", shape_of(spec.data.x, "x")[0], settings.max_points)


def least_numbers(spec: KernelSpec) -> int:
    """How many numbers the kernels have at least, known before they are computed: one for each pair."""
    rows = shape_of(spec.x1, "x")[0]
    return rows * (rows if spec.x2 is None else shape_of(spec.x2, "x")[0]) * len(spec.of.get)


def check_json_size(numbers: int, settings: Settings) -> None:
    """Refuse to write very many numbers as text.

    Raises:
        ResourceError: it is over the limit.
    """
    hint = "Accept application/x-npy or application/x-npz."
    _check("", "numbers in JSON", numbers, settings.max_json_numbers, hint)


def _layers(pointer: str, layers: list[Any], times: int) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Every layer, nested ones too: its pointer, its fields, and how often it is there."""
    for index, layer in enumerate(layers):
        here = f"{pointer}/{index}"
        yield here, layer, times
        for field in ("layers", "branches"):
            yield from _layers(f"{here}/{field}", layer.get(field, []), times)
        if "layer" in layer:  # repeated; its pointer has no index
            inside = _layers(f"{here}/layer", [layer["layer"]], times * layer["times"])
            for inner, fields, count in inside:
                yield inner.replace("/layer/0", "/layer", 1), fields, count


def _check(pointer: str, what: str, found: float, most: float, hint: str | None = None) -> None:
    if found > most:
        raise ResourceError(
            f"{what}: {found:g}, at most {most:g} are allowed",
            pointer=pointer,
            hint=hint or f"Ask for at most {most:g}, or have the operator raise the limit.",
            estimate={what: found},
            limit={what: most},
        )
