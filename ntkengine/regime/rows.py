"""From numbers of seeds to what a report says of a width: medians with intervals. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.analysis import fit_exponent, median_interval
from ntkengine.regime.spec import Case
from ntkengine.regime.thresholds import verdict

Numbers = Mapping[str, NDArray[np.float64]]
Row = dict[str, Any]

EXPONENTS = {
    "kernel_change": "kernel_change",
    "weight_change": "weight_change",
    "linearization_error_train": "linearization_train",
    "linearization_error_test": "linearization_test",
    "learning_rate_limit": "learning_rate_limit",
}
"""Quantities whose exponents in the width are fitted, and the numbers behind them."""


def interval(values: NDArray[np.float64] | None) -> Row | None:
    """Median and bootstrap interval of the seeds; None where there is no such number of every seed."""
    if values is None or not np.isfinite(values).all():
        return None
    return dict(median_interval(values)._asdict())


def row_of(case: Case, numbers: Numbers) -> Row:
    """What a report says of one network."""
    of = {
        name: interval(values)
        for name, values in numbers.items()
        if values.ndim == 1 and name != "kernel_times"
    }
    trained = interval(share_of(numbers))
    row = {
        "width": case.width,
        "output_scale_factor": case.scale,
        "seeds": len(numbers["kernel_change"]),
        "diverged": int(numbers["diverged"].sum()),
        "kernel_change": of["kernel_change"],
        "kernel_change_largest": of["largest_kernel_change"],
        "linearization_error": {part: of.get(f"linearization_{part}") for part in ("train", "test")},
        "linearization_error_at_end": {
            part: of.get(f"linearization_{part}_end") for part in ("train", "test")
        },
        "kernel_prediction_error": {part: of.get(f"kernel_{part}") for part in ("train", "test")},
        "kernel_velocity": of["kernel_velocity"],
        "alignment": {"start": of["alignment_start"], "end": of["alignment_end"]},
        "cka": of["cka"],
        "weight_change": of["weight_change"],
        "trained_share": trained,
        "test_error": {whose: of.get(f"error_{whose}") for whose in ("network", "linearized", "kernel")},
        "learning_rate_limit": lowest(numbers["learning_rate_limit"]),
        "curve": {
            "time": numbers["kernel_times"].tolist(),
            "kernel_change": np.median(numbers["kernel_curve"], axis=1).tolist(),
        },
    }
    return row | {"verdict": verdict(row)}


def share_of(numbers: Numbers) -> NDArray[np.float64]:
    """The share of the loss at the start that was trained away, by seed."""
    start = numbers["loss_start"]
    left = np.divide(numbers["loss_end"], start, out=np.full_like(start, np.nan), where=start > 0)
    return 1.0 - left


def lowest(values: NDArray[np.float64]) -> float | None:
    """The least of the seeds; None where there is none."""
    return float(values.min()) if np.isfinite(values).all() else None


def exponents(cases: Sequence[Case], found: Mapping[str, Numbers], axis: str = "width") -> Row:
    """The exponents in the width, or in the output scale, of the cases that were trained."""
    trained = [case for case in cases if row_of(case, found[case.key])["verdict"] != "undetermined"]
    return {name: exponent(trained, found, source, axis) for name, source in EXPONENTS.items()}


def exponent(cases: Sequence[Case], found: Mapping[str, Numbers], source: str, axis: str) -> Row | None:
    """One exponent, or None where the numbers have no logarithms."""
    if len(cases) < 2 or any(source not in found[case.key] for case in cases):
        return None
    values = np.array([found[case.key][source] for case in cases])
    if not (np.isfinite(values).all() and (values > 0).all()):
        return None
    fitted = fit_exponent([getattr(case, axis) for case in cases], values)
    return {**fitted._asdict(), axis + "s": [getattr(case, axis) for case in cases]}
