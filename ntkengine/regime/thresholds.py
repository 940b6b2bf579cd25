"""When a network is called lazy or rich: fixed before anything was measured. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

THRESHOLDS: Mapping[str, float] = {
    "lazy_kernel_change": 0.1,
    "lazy_linearization_error": 0.1,
    "rich_kernel_change": 0.5,
    "trained_share": 0.9,
}

DEFINITIONS: Mapping[str, str] = {
    "lazy": "the upper end of the interval of the relative kernel change is below lazy_kernel_change, "
    "and those of |f - f_lin| / |f_T - f_0|, largest over the recorded moments, on training and test points, "
    "are below lazy_linearization_error",
    "rich": "the lower end of the interval of the relative kernel change is at least rich_kernel_change",
    "between": "neither lazy nor rich",
    "undetermined": "the median share of the loss that was trained away is below trained_share, or "
    "seeds diverged",
}


def verdict(row: Mapping[str, Any]) -> str:
    """The verdict on one width of a report."""
    share = row["trained_share"]
    if row["diverged"] or share is None or share["median"] < THRESHOLDS["trained_share"]:
        return "undetermined"
    change = row["kernel_change"]
    apart = [side for side in row["linearization_error"].values() if side is not None]
    near = all(side["high"] < THRESHOLDS["lazy_linearization_error"] for side in apart)
    if change["high"] < THRESHOLDS["lazy_kernel_change"] and near:
        return "lazy"
    return "rich" if change["low"] >= THRESHOLDS["rich_kernel_change"] else "between"
