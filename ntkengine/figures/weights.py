"""Linear neurons: their paths in weight space beside the linearized ones, their losses and the distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from ntkengine.figures.runs import Array, Recorded, recorded
from ntkengine.figures.style import COLOURS, SOLUTION, TWIN

TARGET = 1.0  # y of the one point (1, y) of these experiments
FEW = 10  # neurons of each network that are drawn, where it has many


def plane(name: str, canvas: Canvas) -> None:
    """One neuron: weight plane with gradient field and solutions; loss; distance."""
    run = recorded(name)
    canvas.set_size_inches(12, 4)
    left, middle, right = canvas.subplots(1, 3, width_ratios=(1.2, 1, 1))
    paths = np.stack([run["weights", each] for each in ("layers.0.W", "layers.2.W")], axis=-1)[:, :, 0, 0]
    twins = np.stack([run["linearized", "weights", each] for each in ("layers.0.W", "layers.2.W")], axis=-1)
    field(left, float(np.abs(paths).max()) + 0.4)
    for member, colour in zip(range(paths.shape[1]), COLOURS, strict=False):
        left.plot(*paths[:, member].T, color=colour)
        left.plot(*twins[:, member, 0, 0].T, "--", color=TWIN, linewidth=1.2)
        left.plot(*paths[0, member], "o", color=colour, markersize=6)
    left.plot([], [], "--", color=TWIN, label="linearized")
    left.legend(loc="best")
    left.set(xlabel="$w_1$", ylabel="$w_2$", title="Weights, gradient field and solutions")
    losses(middle, run)
    distances(right, run)


def field(axes: Axes, size: float) -> None:
    """-grad L of L = (w v - y)^2 / 2 as arrows of one length, and the solutions v = y / w."""
    side = np.linspace(-size, size, 17)
    w, v = np.meshgrid(side, side)
    error = w * v - TARGET
    down = np.stack([-error * v, -error * w])
    norm = np.maximum(np.linalg.norm(down, axis=0), 1e-9)
    axes.quiver(w, v, *(down / norm), color="0.75", angles="xy", width=0.003, zorder=0)
    for branch in (np.linspace(-size, -TARGET / size, 200), np.linspace(TARGET / size, size, 200)):
        axes.plot(branch, TARGET / branch, color=SOLUTION, linewidth=2.2, zorder=1)
    axes.plot([], [], color=SOLUTION, label="loss 0: $w_2 w_1 = 1$")
    axes.set(xlim=(-size, size), ylim=(-size, size), aspect="equal")
    axes.grid(visible=False)


def neurons(name: str, width: int, canvas: Canvas) -> None:
    """Several neurons: each as a point, second-layer weights times sqrt(N); loss; distance."""
    run = recorded(name)
    canvas.set_size_inches(12, 4)
    left, middle, right = canvas.subplots(1, 3)
    real = in_plane(run["weights", "layers.0.W"], run["weights", "layers.2.W"])
    twin = in_plane(run["linearized", "weights", "layers.0.W"], run["linearized", "weights", "layers.2.W"])
    for member, colour in zip(range(real.shape[1]), COLOURS, strict=False):
        for neuron in range(min(width, FEW)):
            left.plot(*real[:, member, neuron].T, color=colour, linewidth=1.2)
            left.plot(*twin[:, member, neuron].T, "--", color=TWIN, linewidth=0.9)
        left.plot(
            *real[0, member, :FEW].T, "o", color=colour, markersize=5 if width <= 2 else 3, linestyle="none"
        )
    left.plot([], [], "--", color=TWIN, label="linearized")
    left.legend(loc="best")
    count = "The neuron" if width == 1 else f"{min(width, FEW)} neurons"
    title = f"{count} of each of four networks, N = {width}"
    left.set(xlabel="$w_1$", ylabel=r"$\sqrt{N}\, w_2$", title=title)
    losses(middle, run)
    distances(right, run)


def in_plane(first: Array, second: Array) -> Array:
    """(T, S, 1, N) and (T, S, N, 1) as points (T, S, N, 2), the second weights times sqrt(N)."""
    v = second[..., 0]
    return np.stack([first[:, :, 0, :], v * np.sqrt(v.shape[-1])], axis=-1)


def losses(axes: Axes, run: Recorded) -> None:
    """Over their start, actual and linearized, up to where 1 % is left of all that converge."""
    real, twin = run["loss",], run["linearized", "loss"]
    for member, colour in zip(range(real.shape[1]), COLOURS, strict=False):
        axes.plot(run.times, real[:, member] / real[0, member], color=colour, label=f"run {member + 1}")
        axes.plot(run.times, twin[:, member] / twin[0, member], "--", color=colour, linewidth=1.2)
    axes.plot([], [], "--", color="0.3", label="linearized")
    axes.set(xlabel="time", ylabel="loss / loss at the start", title="Normalised loss")
    axes.set_xlim(0, late([run]))
    axes.legend()


def distances(axes: Axes, run: Recorded) -> None:
    """Between linearized and actual weights, over how far the actual ones came in all (the path's length)."""
    apart = run["linearized", "distance"] * run["path", "displacement"]
    length = run["path", "length"][-1]
    for member, colour in zip(range(apart.shape[1]), COLOURS, strict=False):
        axes.plot(run.times, apart[:, member] / length[member], color=colour)
    axes.set(
        xlabel="time",
        ylabel=r"$|\theta - \theta_{lin}|$ / path length",
        title="Normalised distance of the weights",
    )
    end = late([run])
    seen = (apart / length)[run.times <= end]
    axes.set(xlim=(0, end), ylim=(0, 1.08 * float(seen.max())))


def late(runs: Sequence[Recorded]) -> float:
    """A time by which what there is to see has happened: in all members that converge, and their twins."""
    times = []
    for run in runs:
        both = np.concatenate([run["loss",], run["linearized", "loss"]], axis=1)
        share = both / both[0]
        done = [run.times[(each <= 1e-3).argmax()] for each in share.T if (each <= 1e-3).any()]
        times.append(max(done, default=run.times[-1]))
    return float(1.2 * max(times))
