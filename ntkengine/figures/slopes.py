"""The quadratic networks: loss, errors, slopes as measured and as the kernel predicts, and the kernel."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas

from ntkengine.activations import Tanh
from ntkengine.dynamics import Data
from ntkengine.experiments import EXPERIMENTS
from ntkengine.figures.runs import recorded
from ntkengine.figures.style import COLOURS
from ntkengine.influence import InfluenceSpec, influence
from ntkengine.layers import Dense
from ntkengine.model import Model

TANH = Model(layers=(Dense(width=200, W_std=2.0, b_std=1.0), Tanh(), Dense(width=1)))
X = ("1", "-1")  # the training inputs of these experiments
WIDTHS = (3.2, 1.6, 1.2)  # of lines that may lie on each other: all of them are seen
ENTRIES = ((0, 0, r"$\Theta(1, 1)$"), (0, 1, r"$\Theta(1, -1)$"), (1, 1, r"$\Theta(-1, -1)$"))


def training(name: str, canvas: Canvas) -> None:
    """Loss and errors, slopes, kernel over time."""
    run = recorded(name)
    canvas.set_size_inches(12, 6.5)
    canvas.suptitle(EXPERIMENTS[name].title)
    (loss, errors), (slopes, kernel) = canvas.subplots(2, 2, sharex=True)
    loss.plot(run.times, run["loss",], color=COLOURS[0])
    loss.set(ylabel="loss", title="Loss")
    measured, predicted = run["slopes", "measured"], run["slopes", "predicted"]
    for point, colour in enumerate(COLOURS[: len(X)]):
        errors.plot(
            run.times,
            run["errors",][:, point, 0],
            color=colour,
            linewidth=WIDTHS[point],
            label=f"x = {X[point]}",
        )
        slopes.plot(run.times, measured[:, point, 0], color=colour, linewidth=3, alpha=0.45)
        slopes.plot(
            run.times, predicted[:, point, 0], "--", color=colour, linewidth=1.4, label=f"x = {X[point]}"
        )
    tests = np.asarray(EXPERIMENTS[name].spec.data.x_test, dtype=np.float64).ravel()
    for point, colour in enumerate(COLOURS[2 : 2 + len(tests)]):
        label = f"x = {tests[point]:g} (test)"
        slopes.plot(
            run.times, run["slopes_test", "measured"][:, point, 0], color=colour, linewidth=3, alpha=0.3
        )
        slopes.plot(run.times, run["slopes_test", "predicted"][:, point, 0], "--", color=colour, label=label)
    slopes.plot([], [], color="0.3", linewidth=3, alpha=0.45, label="measured")
    slopes.plot([], [], "--", color="0.3", label="predicted by the kernel")
    errors.set(ylabel="f - y", title="Errors on the training inputs")
    slopes.set(xlabel="time", ylabel="df/dt", title="Slopes")
    for (i, j, label), colour, width in zip(ENTRIES, COLOURS, WIDTHS, strict=False):
        kernel.plot(run.times, run["kernel",][:, i, j], color=colour, linewidth=width, label=label)
    kernel.set(xlabel="time", ylabel="kernel", title="Kernel on the training inputs")
    kernel.set_ylim(bottom=min(0.0, kernel.get_ylim()[0]))
    kernel.set_xlim(0, 1.5 * run.time_of_share(1e-3))
    for axes in (errors, slopes, kernel):
        axes.legend()


def new_point(canvas: Canvas) -> None:
    """The notes' first figure: a function before and after one more point, and what the kernel says of it."""
    line = np.linspace(-1.5, 1.5, 121)[:, None]
    data, x_new, y_new = Data(x=[[-1.0], [-0.3]], y=[[0.4], [-0.4]]), 0.6, 1.0
    asked = InfluenceSpec(model=TANH, data=data, x_new=[[x_new]], y_new=[[y_new]], points=line)
    found = influence(asked)
    canvas.set_size_inches(12, 4)
    left, middle, right = canvas.subplots(1, 3, sharex=True)
    known = np.asarray(data.x, dtype=np.float64), np.asarray(data.y, dtype=np.float64)
    for axes, f, title in ((left, found.before, "Trained"), (middle, found.after, "One more point")):
        axes.plot(line, f, color=COLOURS[0], label="network")
        axes.plot(*known, "o", color="0.2", label="training points")
        axes.set(xlabel="x", ylabel="f(x)", title=title)
    middle.plot(line, found.before, color=COLOURS[0], alpha=0.35, linewidth=1.2, label="before")
    middle.plot(line, found.before + found.predicted, "--", color=COLOURS[1], label="by the kernel")
    middle.plot([x_new], [y_new], "*", color=COLOURS[3], markersize=13, label="new point")
    middle.set_ylim(left.set_ylim(middle.get_ylim()))
    right.plot(line, found.moved, color=COLOURS[0], linewidth=3, alpha=0.45, label="measured")
    right.plot(line, found.predicted, "--", color=COLOURS[1], label="by the kernel")
    right.plot(line, found.weight / found.weight.max(), ":", color="0.3", label=r"$\Theta(x, x_{new})$ / max")
    right.axvline(x_new, color=COLOURS[3], linewidth=0.8)
    right.set(xlabel="x", ylabel="change of f(x)", title="How the new point moves f")
    for axes in (left, middle, right):
        axes.legend()


def distribution(name: str, canvas: Canvas) -> None:
    """Particles in weight space at the start and at the end, by their probability."""
    run = recorded(name)
    canvas.set_size_inches(10, 4.2)
    canvas.suptitle(EXPERIMENTS[name].title)
    w, v = run["weights", "layers.0.W"][:, 0, :], run["weights", "layers.2.W"][:, :, 0]
    probabilities = run["weights", "probabilities"][0]
    size = 60.0 * probabilities / probabilities.max()
    for axes, at, title in zip(
        canvas.subplots(1, 2, sharex=True, sharey=True), (0, -1), ("start", "end"), strict=True
    ):
        axes.scatter(w[at], v[at], s=size, color=COLOURS[0], alpha=0.35, linewidths=0)
        axes.set(xlabel="$w_1$", title=f"Neurons at the {title} (area: probability)")
        axes.set_ylabel("$w_2$")
