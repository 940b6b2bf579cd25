"""Regime reports: networks measured one after another, and what they add up to."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ntkengine.regime.advice import KNOBS, best, holds
from ntkengine.regime.rows import Row, exponents, row_of
from ntkengine.regime.sentences import assumptions, reasons
from ntkengine.regime.spec import ADVICE_GROWTH, Case, RegimeSpec
from ntkengine.regime.thresholds import DEFINITIONS, THRESHOLDS

Checkpoint = dict[str, np.ndarray]
TRIES = 2  # of an advice: the first, and one revision


@dataclass(frozen=True)
class Step:
    """A stretch of the work: the share that is done, what to go on from, and at the end the report."""

    progress: float
    checkpoint: Checkpoint
    report: dict[str, Any] | None = None


@dataclass
class Findings:
    """The numbers of every network that has been measured, by the key of its case."""

    spec: RegimeSpec
    by_key: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    spent: float = 0.0

    @classmethod
    def of(cls, spec: RegimeSpec, checkpoint: Checkpoint | None) -> Findings:
        found = cls(spec)
        for name, array in (checkpoint or {}).items():
            key, quantity = name.split("/")
            found.by_key.setdefault(key, {})[quantity] = array
        return found

    def checkpoint(self) -> Checkpoint:
        return {f"{key}/{name}": array for key, found in self.by_key.items() for name, array in found.items()}

    def row(self, case: Case) -> Row:
        return row_of(case, self.by_key[case.key])

    def measure(self, case: Case, seconds: float) -> Iterator[Step]:
        """Measure one network, unless it is known; its numbers are in the checkpoint of the last step."""
        from ntkengine.regime.measure import measure

        cost = self.spec.cost(case)
        if case.key not in self.by_key:
            for share, numbers in measure(self.spec, case, seconds):
                if numbers is not None:
                    self.by_key[case.key] = numbers
                yield Step(self._progress(share * cost), self.checkpoint())
        self.spent += cost

    def _progress(self, here: float) -> float:
        """Short of 1 until the report is there: how much advice will take is not known before."""
        return min((self.spent + here) / total(self.spec), 0.99)


def total(spec: RegimeSpec) -> float:
    """The work to expect."""
    costs = [spec.cost(case) for case in (*spec.cases(), *spec.probes())]
    return sum(costs) + (0.0 if spec.advise == "none" else ADVICE_GROWTH * max(costs))


def regime_report(
    spec: RegimeSpec, checkpoint: Checkpoint | None = None, *, segment_seconds: float = 0.5
) -> Iterator[Step]:
    """Say whether a network is in the kernel regime on some data, and how far its kernel can be trusted.

    Several seeds of each width are trained. Beside each, from its own start: the linearized
    network under the same optimiser, and the closed form of gradient flow with its kernel. The last step has
    the report: `verdict` with `reasons` and `thresholds`; `widths`, a row of medians with bootstrap intervals
    for each; `exponents` in the width; `learning_rate_limit`; `advice`, checked by a run; `assumptions`.

    A report that is taken up from a step's checkpoint goes on with the networks that are missing there.

    Raises:
        EngineError: the spec does not fit together, or a computation left the range of float64.

    Source: Chizat, Oyallon and Bach, "On lazy training in differentiable programming" (2019); Lee et al.,
    "Wide neural networks of any depth evolve as linear models under gradient descent" (2019).

    >>> from ntkengine import Data, Dense, GradientFlow, Model, Tanh
    >>> model = Model(layers=(Dense(width=1000), Tanh(), Dense(width=1)))
    >>> data = Data(x=[[1.0], [-1.0]], y=[[0.5], [-0.5]])
    >>> spec = RegimeSpec(model=model, data=data, training=GradientFlow(t_end=20.0, rtol=1e-6), seeds=3)
    >>> *_, last = regime_report(spec)
    >>> last.report["verdict"]
    'lazy'
    """
    spec.check()
    found = Findings.of(spec, checkpoint)
    for case in spec.cases():
        yield from found.measure(case, segment_seconds)
    advice = yield from advised(spec, found, segment_seconds)
    yield Step(1.0, found.checkpoint(), report_of(spec, found, advice))


def report_of(spec: RegimeSpec, found: Findings, advice: Row | None) -> Row:
    """The report, as JSON has it."""
    rows = [found.row(case) for case in spec.cases()]
    own = found.row(spec.own)
    fitted = exponents(spec.cases(), found.by_key)
    return {
        "verdict": own["verdict"],
        "width": own["width"],
        "reasons": reasons(own, rows, fitted, advice),
        "thresholds": dict(THRESHOLDS),
        "definitions": dict(DEFINITIONS),
        "widths": rows,
        "exponents": fitted,
        "learning_rate_limit": own["learning_rate_limit"],
        "advice": advice,
        "assumptions": assumptions(spec),
        "time_unit": spec.run(spec.own).facts()["time_unit"],
    }


def advised(spec: RegimeSpec, found: Findings, seconds: float) -> Generator[Step, None, Row | None]:
    """Look for the width or output scale that makes the network lazy, and return what to say of it."""
    if spec.advise == "none":
        return None
    for case in spec.probes():
        yield from found.measure(case, seconds)
    cases, knob = spec.probes() or spec.cases(), KNOBS[spec.advise]
    slopes = exponents(cases, found.by_key, knob.axis)
    told: Row = {
        "change": spec.advise,
        "tolerance": spec.tolerance,
        "exponents": slopes,
        "holds": False,
        "tries": [],
    }
    enough = [case for case in (spec.own, *cases) if holds(found.row(case), spec.tolerance)]
    if enough:
        return told | settled(found, enough[0])
    base = best(cases, {case.key: found.row(case) for case in cases})
    if base is None:
        return told | {"reason": "no network was trained far enough to say"}
    return told | (yield from tried(found, base, slopes, seconds))


def tried(
    found: Findings, base: Case, slopes: Mapping[str, Any], seconds: float
) -> Generator[Step, None, Row]:
    """Propose from what was measured, train that, and revise it once if that was not enough."""
    spec, told, tries = found.spec, Row(), list[Row]()
    for _ in range(TRIES):
        proposal = KNOBS[spec.advise].proposal(base, found.row(base), slopes, spec.tolerance)
        if not isinstance(proposal, Case):
            return told | {"tries": tries, "reason": proposal}
        yield from found.measure(proposal, seconds)
        told = settled(found, proposal)
        tries += told["tries"]
        if told["holds"]:
            return told | {"tries": tries}
        base = proposal
    return told | {"tries": tries, "reason": "trained there it was not lazy within the tolerance"}


def settled(found: Findings, case: Case) -> Row:
    """What to write into the spec for a case that was trained, and what its training said."""
    spec, row = found.spec, found.row(case)
    names = (
        "width", "output_scale_factor", "verdict", "kernel_change", "linearization_error", "trained_share",
    )  # fmt: skip
    said = KNOBS[spec.advise].said(case, spec.model)
    return {**said, "holds": holds(row, spec.tolerance), "tries": [{name: row[name] for name in names}]}
