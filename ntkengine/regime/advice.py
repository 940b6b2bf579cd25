"""At which width, or output scale, a network would be lazy within a tolerance. Torch-free.

From the exponents and the last of the networks that were compared; whether it holds is for a run to say.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ntkengine.model import Model
from ntkengine.regime.rows import Row
from ntkengine.regime.spec import Case, started

LEAST_SLOPE = -0.15  # an exponent nearer to 0 promises nothing
MARGIN = 1.2  # on the advised factor, for the spread between one fit and one run
FARTHEST = 4096.0  # no advice beyond this many times what was measured
MEASURES: Mapping[str, Callable[[Row], Any]] = {
    "kernel_change": lambda row: row["kernel_change"],
    "linearization_error_train": lambda row: row["linearization_error"]["train"],
    "linearization_error_test": lambda row: row["linearization_error"]["test"],
}


def over(row: Row, tolerance: float) -> dict[str, float]:
    """By how much each measure of a row exceeds the tolerance, as a factor of its interval's upper end."""
    found = {name: of(row) for name, of in MEASURES.items()}
    return {name: value["high"] / tolerance for name, value in found.items() if value is not None}


def holds(row: Row, tolerance: float) -> bool:
    """Whether the network of a row is lazy within the tolerance."""
    return row["verdict"] != "undetermined" and all(factor < 1.0 for factor in over(row, tolerance).values())


class Knob(ABC):
    """What may be turned to make a network lazy."""

    name: ClassVar[str]
    axis: ClassVar[str]

    @abstractmethod
    def turned(self, case: Case, factor: float) -> Case:
        """The case with that factor on the knob, at least."""

    @abstractmethod
    def said(self, case: Case, model: Model) -> dict[str, Any]:
        """What to write into the spec."""

    def proposal(self, case: Case, row: Row, slopes: Mapping[str, Any], tolerance: float) -> Case | str:
        """The case that should be lazy, from one that was measured; or why there is none."""
        wanted = 1.0
        for name, factor in over(row, tolerance).items():
            if factor < 1.0:
                continue
            slope = slopes.get(name)
            if slope is None or slope["slope"] > LEAST_SLOPE:
                return flat(self.axis, name, slope)
            wanted = max(wanted, factor ** (-1.0 / slope["slope"]))
        if wanted > FARTHEST:
            return f"it would take a {self.name} about {wanted:.2g} times that of what was measured"
        return self.turned(case, wanted * MARGIN)


class WidthKnob(Knob):
    """More neurons."""

    name, axis = "width", "width"

    def turned(self, case: Case, factor: float) -> Case:
        return replace(case, width=rounded(case.width * factor))

    def said(self, case: Case, model: Model) -> dict[str, Any]:
        return {"width": case.width}


class ScaleKnob(Knob):
    """A larger factor on the output, from a start at f = 0."""

    name, axis = "output_scale", "scale"

    def turned(self, case: Case, factor: float) -> Case:
        return replace(case, scale=float(f"{case.scale * factor * 1.005:.2g}"))

    def said(self, case: Case, model: Model) -> dict[str, Any]:
        return {
            "output_scale": model.output_scale * case.scale,
            "initial_function": started(model, case.scale),
            "time_factor": case.scale**-2,
        }


KNOBS: Mapping[str, Knob] = {knob.name: knob for knob in (WidthKnob(), ScaleKnob())}


def flat(axis: str, measure: str, slope: Row | None) -> str:
    """Why no value of a knob is advised."""
    words = measure.replace("_", " ")
    if slope is None:
        return f"too few networks were trained to know how the {words} falls with the {axis}"
    return (
        f"the {words} does not fall with the {axis} (exponent {slope['slope']:.2f}, between "
        f"{slope['low']:.2f} and {slope['high']:.2f}), so no {axis} makes this network lazy"
    )


def rounded(width: float) -> int:
    """Two leading digits, upwards."""
    unit = 10.0 ** max(0, math.floor(math.log10(width)) - 1)
    return int(math.ceil(width / unit) * unit)


def best(cases: Sequence[Case], rows: Mapping[str, Row]) -> Case | None:
    """The last case that was trained: what advice starts from."""
    trained = [case for case in cases if rows[case.key]["verdict"] != "undetermined"]
    return trained[-1] if trained else None
