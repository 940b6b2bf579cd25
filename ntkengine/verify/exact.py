"""Numbers that are known exactly, or to all digits that were printed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ntkengine.activations import Linear, Quadratic
from ntkengine.dynamics import (
    At,
    Data,
    GradientDescent,
    GradientFlow,
    KernelDistanceRecord,
    KernelRecord,
    LinearizedRecord,
    LinearSchedule,
    OutputsRecord,
    RunSpec,
    SlopesRecord,
    Stop,
    WeightsRecord,
)
from ntkengine.laws import AnyLaw, Normal, Uniform, Zero
from ntkengine.layers import Dense
from ntkengine.model import Model
from ntkengine.verify.claim import Claim, Effort, Found, below, equal, every
from ntkengine.verify.runs import Array, X, Y, last_values, network, points

NEURON = {"layers.0.W": [[1.0]], "layers.0.b": [0.5], "layers.2.W": [[2.0]]}
DATA = Data(x=X, y=Y)


def start_of_the_neuron(_: Effort) -> Found:
    """The kernel of one neuron, by hand."""
    import torch

    from ntkengine.empirical import empirical_ntk

    kernel = empirical_ntk(network(1).network((1,), weights=NEURON), torch.tensor(X, dtype=torch.float64))
    return every(
        [
            equal(kernel, [[77.0625, 0.5625], [0.5625, 8.0625]], 1e-15),
            equal(torch.linalg.eigvalsh(kernel), [8.0579, 77.0671], 1e-6),
        ]
    )


def end_of_the_neuron(_: Effort) -> Found:
    """Its weights, kernel and change after the flow."""
    values = last_values(
        RunSpec(
            model=network(1),
            data=DATA,
            training=GradientFlow(t_end=100.0, stop=Stop(loss_below=1e-20)),
            record=(WeightsRecord(), KernelRecord(), KernelDistanceRecord()),
            weights=NEURON,
        )
    )
    weights = [values["weights"][name].item() for name in ("layers.0.W", "layers.0.b", "layers.2.W")]
    return every(
        [
            equal(np.abs(weights), [0.72412, 0.0, 1.9071], 1e-4),
            equal(values["kernel"], [[15.532, 0.27494], [0.27494, 15.532]], 1e-4),
            equal(values["kernel_distance"], 0.79992, 1e-4),
        ]
    )


def slopes_of_the_flow(_: Effort) -> Found:
    """Fourth-order differences of recorded outputs against -Theta r."""
    step, times = 3e-4, np.linspace(0.01, 2.0, 25)
    around = (times[:, None] + step * np.array([-2, -1, 0, 1, 2])).ravel()
    spec = RunSpec(
        model=network(1),
        data=DATA,
        training=GradientFlow(t_end=3.0, rtol=1e-10, atol=1e-13),
        record=(OutputsRecord(schedule=At(at=tuple(around))), SlopesRecord(schedule=At(at=tuple(times)))),
        weights=NEURON,
    )
    found = points(spec)
    outputs = {round(p.time, 9): p.values["outputs"] for p in found if "outputs" in p.values}
    predicted = {round(p.time, 9): p.values["slopes"]["predicted"] for p in found if "slopes" in p.values}
    f = np.array([outputs[round(t, 9)] for t in around]).reshape(len(times), 5, 2)
    measured = (f[:, 0] - 8 * f[:, 1] + 8 * f[:, 3] - f[:, 4]) / (12 * step)
    wanted = np.array([predicted[round(t, 9)] for t in times]).reshape(len(times), 2)
    return below(float(np.abs(measured - wanted).max() / np.abs(wanted).max()), 1e-5)


def slope_of_a_step(_: Effort) -> Found:
    """`|(f_1 - f_0) / lr + Theta_0 r_0| / |Theta_0 r_0|` from two recorded points."""
    errors = []
    for rate in (1e-3, 1e-4, 1e-5):
        training = GradientDescent(learning_rate=rate, steps=1)
        record = (OutputsRecord(), SlopesRecord())
        first, second = points(
            RunSpec(model=network(1), data=DATA, training=training, record=record, weights=NEURON)
        )
        moved = (second.values["outputs"] - first.values["outputs"]) / rate
        wanted = first.values["slopes"]["predicted"]
        errors.append(np.linalg.norm(moved - wanted) / np.linalg.norm(wanted))
    return equal(errors, [1.667e-2, 1.671e-3, 1.672e-4], 5e-4)


def path_kernel_identity(_: Effort) -> Found:
    """`f_T - f_0 = -integral sum Theta_t r_t dt` from recorded snapshots, by Gauss rules on panels."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    edges = np.concatenate([[0.0], np.geomspace(1e-3, 2.0, 40)])
    half = np.diff(edges) / 2
    times = (edges[:-1, None] + half[:, None] * (nodes + 1)).ravel()
    schedule = At(at=tuple(times))
    spec = RunSpec(
        model=network(1),
        data=DATA,
        training=GradientFlow(t_end=2.0, rtol=1e-11, atol=1e-14),
        record=(OutputsRecord(schedule=schedule), KernelRecord(schedule=schedule)),
        weights=NEURON,
    )
    first, *inner, last = points(spec)
    pull = np.array([p.values["kernel"] @ (p.values["outputs"] - np.array(Y)) for p in inner])
    integral = ((half[:, None] * weights).reshape(-1, 1, 1) * pull).sum(0)
    moved = last.values["outputs"] - first.values["outputs"]
    return below(float(np.abs(moved + integral).max()), 1e-9)


def linear_neuron(_: Effort) -> Found:
    """One linear neuron on (1, m): what it conserves, where it ends, and its linearized loss."""
    w, v, m = 0.9, -0.2, 1.5
    spec = RunSpec(
        model=Model(layers=(Dense(width=1), Linear(), Dense(width=1))),
        data=Data(x=[[1.0]], y=[[m]]),
        training=GradientFlow(t_end=60.0, rtol=1e-11, atol=1e-13),
        record=(
            WeightsRecord(schedule=LinearSchedule(points=50)),
            LinearizedRecord(schedule=LinearSchedule(points=50)),
        ),
        weights={"layers.0.W": [[w]], "layers.2.W": [[v]]},
    )
    found = points(spec)
    path = np.array(
        [[p.values["weights"][name].item() for name in ("layers.0.W", "layers.2.W")] for p in found]
    )
    times = np.array([p.time for p in found])
    twin = np.array([p.values["linearized"]["loss"] for p in found])
    wanted = (w * v - m) ** 2 * np.exp(-2 * (w**2 + v**2) * times) / 2
    c = w**2 - v**2
    conserved = np.abs(path[:, 0] ** 2 - path[:, 1] ** 2 - c).max()
    end = (c + math.sqrt(c**2 + 4 * m**2)) / 2
    apart = float(np.abs(twin - wanted).max() / wanted[0])
    return every([below(float(conserved), 1e-8), equal(path[-1, 0] ** 2, end, 1e-8), below(apart, 1e-8)])


def infinite(W_law: AnyLaw, b_law: AnyLaw | None) -> Array:
    """Theta_inf of the points 1 and -1 for those laws of the first layer."""
    import torch

    from ntkengine.infinite import infinite_kernel

    first = Dense(W_law=W_law, b_std=None if b_law is None else 1.0, b_law=b_law or Zero())
    layers = (first, Quadratic(), Dense(width=1, W_law=Uniform(half_width=1.0)))
    return infinite_kernel(Model(layers=layers), torch.tensor(X, dtype=torch.float64)).ntk.numpy()


def infinite_width(_: Effort) -> Found:
    """Rational numbers, by moments."""
    third, twelfth = math.sqrt(1 / 3), math.sqrt(1 / 12)
    uniform, half = Uniform(half_width=1.0), Uniform(half_width=0.5)
    cases: Sequence[tuple[AnyLaw, AnyLaw | None, float, float]] = (
        (uniform, half, 1073 / 720, 113 / 720),
        (Normal(scale=third), Normal(scale=twelfth), 235 / 144, 43 / 144),
        (uniform, Zero(), 49 / 45, 1 / 5),
        (uniform, None, 29 / 45, 29 / 45),
    )
    return every([equal(infinite(W, b)[0], [same, other], 1e-14) for W, b, same, other in cases])


def product_rule(_: Effort) -> Found:
    """The same number by nine Gauss-Legendre nodes along w and b, written out."""
    nodes, weights = np.polynomial.legendre.leggauss(9)
    w, b = nodes[:, None], nodes / 2
    p = weights[:, None] * weights / 4
    z, z_ = w + b, -w + b
    # E[v^2] = 1/3; 1 + x x' is 2 for equal points and 0 for opposite ones
    by_rule = [(z**4 * p).sum() + 2 * ((2 * z) ** 2 * p).sum() / 3, (z**2 * z_**2 * p).sum()]
    return equal(infinite(Uniform(half_width=1.0), Uniform(half_width=0.5))[0], by_rule, 1e-14)


def rank_three(_: Effort) -> Found:
    """The quadratic kernel on a line has rank 3, however many points there are."""
    import torch

    from ntkengine.empirical import empirical_ntk

    x = torch.linspace(-1, 1, 12, dtype=torch.float64)[:, None]
    values = torch.linalg.eigvalsh(empirical_ntk(network(50).network((1,), seed=0), x))
    rank = int((values > 1e-12 * values[-1]).sum())
    return Found(f"rank {rank} of 12", rank == 3)


CLAIMS = (
    Claim("One quadratic neuron: kernel at the start", "77.0625, 0.5625, 8.0625", start_of_the_neuron),
    Claim("the same: weights, kernel and its change at the end", "change 0.79992", end_of_the_neuron),
    Claim("Recorded outputs move by -Theta r (differences of 4th order)", "1e-5", slopes_of_the_flow),
    Claim("the same for a step of 1e-3, 1e-4, 1e-5", "1.667e-2, 1.671e-3, 1.672e-4", slope_of_a_step),
    Claim("f_T - f_0 = -integral Theta_t r_t dt from snapshots", "1e-9", path_kernel_identity),
    Claim("One linear neuron: w^2 - v^2 is kept; its end; its linearized loss", "1e-8", linear_neuron),
    Claim("Infinite width: four laws of the first layer", "1073/720, 113/720, ...", infinite_width),
    Claim("the same by a 9-node product rule", "1e-14", product_rule),
    Claim("The quadratic kernel on a line is singular", "rank 3", rank_three),
)
