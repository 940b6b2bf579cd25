"""Verdicts of the regime report on a grid of networks, where theory knows the right one; and its advice.

The expectations are those of theory (the laws of the kernel's change in the width and the output scale),
written down before the first run: lazy where the law, with its constant, puts the change well below 0.1; not
lazy where it is of order one; undetermined where the loss has hardly moved.

    python benchmarks/regime_grid.py            # the whole grid
    python benchmarks/regime_grid.py --short    # a few points of it
    python benchmarks/regime_grid.py --digits   # the time of one report on digits
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ntkengine import Data, Dataset, Dense, GradientDescent, GradientFlow, Model, Quadratic, Relu, Stop, Tanh
from ntkengine.parameterizations import NTK, MeanField, Standard
from ntkengine.regime import RegimeSpec, regime_report

X, Y = [[1.0], [-1.0]], [[1.0], [1.0]]
TWO = Data(x=X, y=Y, x_test=[[0.5], [-0.25]], y_test=[[1.0], [1.0]])
NOT_LAZY = frozenset({"rich", "between"})
WIDTHS = (10, 64, 256, 1024, 4096)


@dataclass(frozen=True)
class Point:
    """A network of the grid, and the verdicts that are right for it."""

    name: str
    spec: RegimeSpec
    right: frozenset[str]


def network(width: int, activation: Any, parameterization: Any, depth: int = 1, **more: Any) -> Model:
    """A network on one input, with a bias in the first layer only."""
    layers: list[Any] = [Dense(width=width, b_std=1.0), activation]
    for _ in range(depth - 1):
        layers += [Dense(width=width), activation]
    return Model(layers=(*layers, Dense(width=1)), parameterization=parameterization, **more)


def flow(t_end: float) -> GradientFlow:
    """To the end of training, at a tolerance that exponents do not need but verdicts do not notice."""
    return GradientFlow(t_end=t_end, rtol=1e-6, atol=1e-8, stop=Stop(loss_below=1e-4))


def asked(model: Model, training: Any, **more: Any) -> RegimeSpec:
    """What is asked of every point."""
    return RegimeSpec(model=model, data=TWO, training=training, seeds=5, **more)


def grid() -> Iterator[Point]:
    """All points whose verdict theory knows."""
    for width in WIDTHS:
        wide, narrow = width >= 1024, width <= 10
        smooth = frozenset({"lazy"}) if wide else NOT_LAZY if narrow else None
        if smooth:
            # the change falls as 1/N, near 20/N for the quadratic one; with tanh it is smaller
            yield Point(
                f"ntk quadratic N={width}", asked(network(width, Quadratic(), NTK()), flow(200.0)), smooth
            )
            if width <= 1024:  # with more, N^2 weights take hours
                yield Point(
                    f"ntk tanh x2 N={width}",
                    asked(network(width, Tanh(), NTK(), depth=2), flow(400.0)),
                    smooth if wide else smooth | {"lazy"},
                )
        if wide:
            yield Point(
                f"ntk tanh N={width}", asked(network(width, Tanh(), NTK()), flow(400.0)), frozenset({"lazy"})
            )
            # as 1/N^2
            yield Point(
                f"standard quadratic N={width}",
                asked(network(width, Quadratic(), Standard()), flow(1e5 / width)),
                frozenset({"lazy"}),
            )
        # by a constant factor at every width
        yield Point(
            f"mean field, lr N, quadratic N={width}",
            asked(network(width, Quadratic(), MeanField(lr_scale="width")), flow(200.0)),
            NOT_LAZY,
        )
        if width >= 256:
            # 3 % of the loss are gone at T = 10 and N = 1000
            yield Point(
                f"mean field, lr 1, T=10, quadratic N={width}",
                asked(network(width, Quadratic(), MeanField(lr_scale="none")), flow(10.0 * width / 1000)),
                frozenset({"undetermined"}),
            )
        # a read-out activation breaks constancy at every width
        bent = Model(layers=(Dense(width=width, b_std=1.0), Quadratic(), Dense(width=1), Tanh()))
        if wide:
            targets = Data(x=X, y=[[0.9], [0.9]])
            yield Point(
                f"tanh read-out N={width}",
                RegimeSpec(model=bent, data=targets, training=flow(400.0)),
                NOT_LAZY,
            )
        # the change falls as 1/alpha from f = 0, also of a narrow network
        for alpha, right in ((100.0, frozenset({"lazy"})), (0.1, NOT_LAZY)):
            if width <= 64:
                model = network(width, Tanh(), NTK(), output_scale=alpha, initial_function="centred")
                yield Point(f"tanh alpha={alpha:g} N={width}", asked(model, flow(2000.0 / alpha**2)), right)


def report_of(spec: RegimeSpec) -> dict[str, Any]:
    """The report of a spec."""
    *_, last = regime_report(spec)
    if last.report is None:
        raise RuntimeError("a report has an end")
    return last.report


def check_grid(points: list[Point]) -> int:
    """Print every point with its verdict; the number of wrong ones."""
    wrong = 0
    for point in points:
        begin = time.monotonic()
        report = report_of(point.spec)
        own = report["widths"][0]
        right = report["verdict"] in point.right
        wrong += not right
        change, share = own["kernel_change"], own["trained_share"]
        print(
            f"{'ok   ' if right else 'WRONG'} {point.name:42s} {report['verdict']:13s}"
            f" kernel change {change['median']:.3g} ({change['low']:.2g} .. {change['high']:.2g})"
            f" trained {share['median']:.3f}  {time.monotonic() - begin:.1f} s",
            flush=True,
        )
    print(f"{wrong} of {len(points)} verdicts are wrong: {100 * wrong / max(len(points), 1):.1f} %")
    return wrong


def check_advice() -> int:
    """Reports with advice, which they have tried; the number whose advice did not hold."""
    failed = 0
    for advise in ("width", "output_scale"):
        for activation in (Tanh(), Relu()):
            model = network(32, activation, NTK())
            report = report_of(asked(model, flow(400.0), advise=advise, tolerance=0.05))
            advice = report["advice"]
            print(
                f"advice {advise} {activation.kind}: {advice.get(advise)} holds {advice['holds']}", flush=True
            )
            failed += not advice["holds"]
    return failed


def digits() -> None:
    """One report on digits, n = 200: five widths, five seeds."""
    some, others = Dataset(name="digits", limit=200), Dataset(name="digits", split="test", limit=200)
    model = Model(layers=(Dense(width=64, b_std=0.1), Relu(), Dense(width=10)))
    spec = RegimeSpec(
        model=model,
        data=Data(x=some, y=some, x_test=others, y_test=others),
        training=GradientDescent(learning_rate=0.02, steps=200),
        widths=(64, 128, 256, 512, 1024),
        seeds=5,
    )
    begin = time.monotonic()
    report = report_of(spec)
    print(json.dumps({"seconds": time.monotonic() - begin, "reasons": report["reasons"]}, indent=1))
    for row in report["widths"]:
        print(
            row["width"],
            row["verdict"],
            row["kernel_change"],
            row["trained_share"],
            row["learning_rate_limit"],
        )


def main() -> int:
    """Run what was asked for; 1 if a verdict or an advice is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if arguments.digits:
        digits()
        return 0
    points = [point for point in grid() if arguments.only in point.name]
    wrong = check_grid(points[::4] if arguments.short else points)
    return int(wrong + (0 if arguments.short else check_advice()) > 0)


if __name__ == "__main__":
    sys.exit(main())
