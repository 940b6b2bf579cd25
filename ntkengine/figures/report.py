"""One page: what the notes state, what is measured of it here and now, and whether it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ntkengine.figures.runs import recorded
from ntkengine.verify import Claim, Effort, Found, claims

EXPONENT = "Exponent in the width, {}: kernel change"
LINEAR = "Standard, linear, one point, N = {}: linearized end off, over path; time to 1 %"


@dataclass(frozen=True)
class Statement:
    """A sentence of the notes, and the claims that decide it."""

    text: str
    right: bool
    """Whether it is right if those claims hold; otherwise they refute it."""
    evidence: tuple[str, ...]
    correction: str = ""


def right(text: str, *evidence: str) -> Statement:
    """A sentence that its evidence confirms."""
    return Statement(text, True, evidence)


def mistaken(text: str, correction: str, *evidence: str) -> Statement:
    """A sentence that its evidence refutes."""
    return Statement(text, False, evidence, correction)


def saddle(_: Effort) -> Found:
    """What is left of the loss of one linear neuron from w = -v."""
    loss = recorded("linear_one_neuron")["loss",]
    left = float(loss[-1, 4] / loss[0, 4])
    return Found(f"{100 * left:.4g} % of the loss left", left > 0.2)


def straight(_: Effort) -> Found:
    """How far that neuron's path turns, in radians, and the relative change of its kernel on the way."""
    run = recorded("linear_one_neuron")
    kernel = run["kernel",][:, 4, 0, 0]
    turn, change = float(run["path", "curvature"][-1, 4]), float(abs(kernel[-1] / kernel[0] - 1))
    return Found(f"{turn:.1e}; {change:.3g}", turn < 1e-6 and change > 0.5)


def turns(_: Effort) -> Found:
    """By how much paths of linear neurons turn, in radians: the median over runs, N = 1, 10, 100."""
    found = [
        float(np.median(recorded(f"linear_standard_{n}")["path", "curvature"][-1])) for n in (1, 10, 100)
    ]
    return Found(", ".join(f"{each:.3g}" for each in found), found == sorted(found, reverse=True))


OWN = (
    Claim("One linear neuron from (1, -1)", "does not reach zero", saddle),
    Claim("Turn of linear neurons' paths, N = 1, 10, 100", "falls", turns),
    Claim("One linear neuron from (1, -1): turn of its path; change of its kernel", "0; 1", straight),
)

STATEMENTS = (
    right("One neuron from (1, 0.5, 2) starts with 77.0625, 0.5625, 8.0625.",
          "One quadratic neuron: kernel at the start"),
    right("Kernels are not time-independent in general.",
          "the same: weights, kernel and its change at the end"),
    mistaken("df/dt = + sum Theta (f - y).", "The sign is minus.",
             "Recorded outputs move by -Theta r (differences of 4th order)"),
    right("With more neurons the linear approximation gets better, and the optimum is reached sooner.",
          *(LINEAR.format(width) for width in (2, 10, 100))),
    right("Paths become straighter with width, not only shorter.", OWN[1].about),
    right("At 2 and 10 neurons the kernel varies, at 1000 it is nearly constant.",
          "Kernel change, median over seeds, N = 2", "the same, N = 10", "the same, N = 1024, ten seeds"),
    right("Infinite-width values are 1.490278 and 0.156944.", "Infinite width: four laws of the first layer"),
    mistaken("Those values are for b = 0.",
             "They are for b from U(-1/2, 1/2), the first pair; Gaussian laws of the same variances give the "
             "second, a bias that starts at 0 the third, no bias the fourth.",
             "Infinite width: four laws of the first layer"),
    mistaken("Weights that move along a straight line have a constant kernel.",
             "The function has to be affine along the path.", OWN[2].about),
    right("The standard kernel grows with the width.", "Standard parameterization: E Theta_0 at N = 64"),
    mistaken("In standard parameterization weights change significantly.",
             "With one hidden layer it is lazier than NTK parameterization: N^-2 in place of N^-1.",
             EXPONENT.format("standard, quadratic"), EXPONENT.format("ntk, quadratic")),
    right("In mean field, kernels change most while the loss falls.",
          "Mean field, N = 10: growth of the kernel", "the same: peak of its velocity while the loss falls"),
    mistaken("Wide mean-field networks take too long to train.",
             "Only with rates that are not scaled: with rates proportional to N the kernel changes alike "
             "at all widths, in time that does not depend on the width.",
             EXPONENT.format("mean field, quadratic, lr N")),
    mistaken("Another activation may stand on the output.",
             "But then the kernel is not constant at any width.",
             "tanh on the output, N = 100, 1000, 4000: kernel change"),
    mistaken("Weights (or kernels) that hardly move show the kernel regime.",
             "An undertrained network looks lazy too.",
             "Mean field, N = 1000, lr not scaled, at T = 10 and 300"),
    mistaken("Weights move until the loss is zero.",
             "From w = -v they end in the saddle (0, 0).", OWN[0].about),
)  # fmt: skip

HEAD = """# The claims of the notes, measured

| the notes | holds | measured |
| --- | --- | --- |
"""


def report(effort: Effort, statements: tuple[Statement, ...] = STATEMENTS) -> Iterator[str]:
    """The page in Markdown, line by line, as it is measured."""
    known = {claim.about: claim for claim in (*claims(), *OWN)}
    yield HEAD
    for statement in statements:
        evidence = [known[name] for name in statement.evidence]
        found = [claim.measure(effort) for claim in evidence]
        decided = all(each.holds for each in found)
        verdict = {(True, True): "yes", (True, False): "no"}.get((decided, statement.right), "undecided")
        shown = "<br>".join(
            f"{claim.about}: {each.measured} (expected: {claim.expected})"
            for claim, each in zip(evidence, found, strict=True)
        )
        text = f"{statement.text} *{statement.correction}*" if statement.correction else statement.text
        yield f"| {cell(text)} | {verdict} | {cell(shown)} |\n"


def cell(text: str) -> str:
    """Text that does not end its cell of the table."""
    return text.replace("|", "\\|")
