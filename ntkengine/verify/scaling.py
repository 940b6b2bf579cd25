"""How networks of one hidden layer change with their width: exponents, levels and fluctuations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from ntkengine.activations import Relu, Tanh
from ntkengine.analysis import fit_exponent
from ntkengine.layers import AnyLayer
from ntkengine.parameterizations import NTK, AnyParameterization, MeanField, Standard
from ntkengine.verify.by_hand import kernel_change, median_with_error
from ntkengine.verify.claim import Claim, Effort, Found, equal, every, numbers
from ntkengine.verify.runs import Array, X, by_width, ended, network

Interval = tuple[float, float]
WHAT = {"kernel": "kernel change", "weights": "weight change", "linearization": "f - f_lin"}

LR_N = MeanField(lr_scale="width")
# parameterization, activation, time, whether time goes as 1/N, and the intervals of the exponents
ROWS: Mapping[str, tuple[AnyParameterization, AnyLayer | None, float, bool, Mapping[str, Interval]]] = {
    "ntk, quadratic": (
        NTK(), None, 40.0, False,
        {"kernel": (-1.04, -0.88), "weights": (-0.55, -0.42), "linearization": (-1.23, -0.64)},
    ),
    "ntk, tanh": (
        NTK(), Tanh(), 80.0, False,
        {"kernel": (-1.00, -0.88), "weights": (-0.51, -0.45), "linearization": (-1.00, -0.81)},
    ),
    "ntk, relu": (
        NTK(), Relu(), 80.0, False,
        {"kernel": (-0.89, -0.70), "weights": (-0.53, -0.44), "linearization": (-0.73, -0.58)},
    ),
    "standard, quadratic": (
        Standard(), None, 400.0, True,
        {"kernel": (-2.09, -1.92), "weights": (-1.07, -0.94), "linearization": (-2.31, -1.72)},
    ),
    "mean field, quadratic, lr N": (
        LR_N, None, 60.0, False,
        {"kernel": (-0.04, 0.06), "weights": (-0.02, 0.01), "linearization": (-0.15, 0.16)},
    ),
}  # fmt: skip


KINKED = {"ntk, relu"}  # where each kink that a neuron crosses costs steps of an accurate solver


def exponent(row: str, what: str, effort: Effort) -> Found:
    """The exponent of a median over seeds, with its own bootstrap interval."""
    parameterization, activation, t_end, per_width, intervals = ROWS[row]
    rtol = 1e-5 if row in KINKED else 1e-8
    values = by_width(effort.widths, effort.seeds, activation, parameterization, t_end, per_width, rtol)[what]
    found = fit_exponent(effort.widths, values)
    low, high = intervals[what]
    holds = low - effort.widen <= found.slope <= high + effort.widen
    return Found(f"{found.slope:.3f} [{found.low:.2f}, {found.high:.2f}]", holds)


def exponents() -> tuple[Claim, ...]:
    """All rows of the table."""
    return tuple(
        Claim(
            f"Exponent in the width, {row}: {said}",
            "[{:.2f}, {:.2f}]".format(*ROWS[row][4][what]),
            partial(exponent, row, what),
            run=row,
        )
        for row in ROWS
        for what, said in WHAT.items()
    )


def level(width: int, effort: Effort) -> Found:
    """The median relative kernel change, against a program without this engine: to 4 standard errors of the
    difference."""
    count = 3 * effort.seeds
    changes = ended(network(width), range(count), 40.0)["kernel_distance"]
    rng = np.random.default_rng(0)
    others = np.array([kernel_change(width, 40.0, rng) for _ in range(count)])
    (ours, error), (theirs, other_error) = median_with_error(changes), median_with_error(others)
    text = f"{ours:.3g} +- {error:.1g}; by hand {theirs:.3g} +- {other_error:.1g}"
    return Found(text, abs(ours - theirs) <= 4 * float(np.hypot(error, other_error)))


def every_seed(_: Effort) -> Found:
    """Width 1024: the whole range over ten seeds; more seeds have a wider one."""
    changes = ended(network(1024), range(10), 40.0)["kernel_distance"]
    holds = bool(changes.min() >= 0.011 and changes.max() <= 0.035)
    return Found(f"{numbers([changes.min(), np.median(changes), changes.max()], 3)}", holds)


def starts(width: int, count: int, parameterization: AnyParameterization) -> Array:
    """Theta_0 (count, 2, 2) of networks at the start."""
    import torch

    from ntkengine.empirical import empirical_ntk

    x, model = torch.tensor(X, dtype=torch.float64), network(width, None, parameterization)
    kernels = [empirical_ntk(model.network((1,), seed=seed), x) for seed in range(count)]
    return torch.stack(kernels).numpy()


def fluctuation(effort: Effort) -> Found:
    """Standard deviations of Theta_N(1, 1) and Theta_N(1, -1), times sqrt(N), within 4 standard errors."""
    width, count = 64, 2 * effort.networks
    kernels = starts(width, count, NTK())
    wanted = {(0, 0): 2.39031, (0, 1): 0.226536}
    found = []
    for (i, j), value in wanted.items():
        entries = kernels[:, i, j] - kernels[:, i, j].mean()
        spread = np.sqrt((entries**2).mean() * width)
        error = spread * np.sqrt((entries**4).mean() / (entries**2).mean() ** 2 - 1) / (2 * np.sqrt(count))
        found.append(Found(f"{spread:.4f} +- {error:.4f}", bool(abs(spread - value) <= 4 * error)))
    return every(found)


def standard_grows(effort: Effort) -> Found:
    """E Theta(1, 1) = 0.379167 N + 1.1111, E Theta(1, -1) = 0.156944 N, within 4 standard errors."""
    width, count = 64, effort.networks
    kernels = starts(width, count, Standard())
    wanted = {(0, 0): 0.379167 * width + 10 / 9, (0, 1): 0.156944 * width}
    found = []
    for (i, j), value in wanted.items():
        entries = kernels[:, i, j]
        error = float(entries.std(ddof=1) / np.sqrt(count))
        found.append(
            Found(f"{entries.mean():.3f} +- {error:.3f}", bool(abs(entries.mean() - value) <= 4 * error))
        )
    return every(found)


def steps_and_flow(_: Effort) -> Found:
    """The largest difference, over time, between steps and the flow in one mode."""
    import torch

    from ntkengine.predict import gradient_descent, gradient_flow

    one = torch.ones(1, 1, dtype=torch.float64)
    found = []
    for rate in (0.01, 0.1, 0.5, 1.0):
        steps = range(round(20 / rate))
        by_steps = gradient_descent(one, one, learning_rate=rate, steps=steps).train
        by_flow = gradient_flow(one, one, times=[rate * step for step in steps]).train
        found.append(float((by_steps - by_flow).abs().max()))
    return equal(found, [0.0018, 0.019, 0.118, 0.37], 0.02, 3)


BY_HAND = "as a program in numpy gives it"

CLAIMS = (
    *exponents(),
    Claim("Kernel change, median over seeds, N = 2", f"{BY_HAND} (2.4 was first stated)", partial(level, 2)),
    Claim("the same, N = 10", f"{BY_HAND} (1.5 was first stated)", partial(level, 10)),
    Claim("the same, N = 100", f"{BY_HAND} (0.18 was first stated)", partial(level, 100)),
    Claim("the same, N = 1024, ten seeds", "[0.011, 0.035]", every_seed),
    Claim("sqrt(N) times the fluctuation of Theta_0", "2.39031, 0.226536", fluctuation),
    Claim("Standard parameterization: E Theta_0 at N = 64", "25.378, 10.044", standard_grows),
    Claim("Steps against flow at eta lambda = 0.01 ... 1", "0.0018, 0.019, 0.118, 0.37", steps_and_flow),
)
