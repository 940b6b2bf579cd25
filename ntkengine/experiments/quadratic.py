"""The quadratic network of one hidden layer on two points, in NTK parameterization."""

from __future__ import annotations

from ntkengine.activations import Quadratic
from ntkengine.dynamics import (
    Data,
    GradientFlow,
    KernelRecord,
    Logarithmic,
    LossRecord,
    OutputsRecord,
    RunSpec,
    SlopesRecord,
    Stop,
    WeightsRecord,
)
from ntkengine.dynamics.records import AnyRecord
from ntkengine.experiments.experiment import Experiment
from ntkengine.laws import Uniform
from ntkengine.layers import Dense
from ntkengine.model import Model

DATA = Data(x=[[1.0], [-1.0]], y=[[1.0], [1.0]], x_test=[[0.5], [0.0], [-0.5]])
SCHEDULE = Logarithmic(points=200)
RECORDS: tuple[AnyRecord, ...] = (
    LossRecord(schedule=SCHEDULE),
    OutputsRecord(schedule=SCHEDULE),
    KernelRecord(schedule=SCHEDULE),
    SlopesRecord(schedule=SCHEDULE),
    WeightsRecord(schedule=SCHEDULE),
)


def network(width: int) -> Model:
    """`f(x) = N^-1/2 sum_i v_i (w_i x + b_i)^2`, w and v from U(-1, 1), b from U(-1/2, 1/2)."""
    weight = Uniform(half_width=1.0)
    hidden = Dense(width=width, W_law=weight, b_std=1.0, b_law=Uniform(half_width=0.5))
    return Model(layers=(hidden, Quadratic(), Dense(width=1, W_law=weight)))


def of_width(width: int, t_end: float, shows: str, *expect: str) -> Experiment:
    """The experiment at that width, from drawn weights."""
    return Experiment(
        name=f"quadratic_ntk_{width}",
        title=f"{width} quadratic neurons, NTK parameterization",
        shows=shows,
        expect=expect,
        spec=RunSpec(
            model=network(width),
            data=DATA,
            training=GradientFlow(t_end=t_end, stop=Stop(loss_below=1e-12)),
            record=RECORDS,
            seed=0,
        ),
    )


QUADRATIC = (
    Experiment(
        name="quadratic_one_neuron",
        title="One quadratic neuron from w = 1, b = 0.5, v = 2",
        shows="The kernel predicts every slope exactly, and changes by 80 % while it does.",
        expect=(
            "At the start the kernel is [[77.0625, 0.5625], [0.5625, 8.0625]].",
            "At the end it is [[15.532, 0.27494], [0.27494, 15.532]]: a relative change of 0.79992.",
            "Measured and predicted slopes agree throughout, on test points too.",
        ),
        spec=RunSpec(
            model=network(1),
            data=DATA,
            training=GradientFlow(t_end=5.0, stop=Stop(loss_below=1e-16)),
            record=RECORDS,
            weights={"layers.0.W": [[1.0]], "layers.0.b": [0.5], "layers.2.W": [[2.0]]},
        ),
    ),
    of_width(
        2,
        200.0,
        "Two neurons are far from the kernel regime: the kernel moves by more than its own size.",
        "The relative kernel change of this seed is 10.4; the median over seeds is about 3.",
        "About 1 seed in 10 never reaches zero loss.",
    ),
    of_width(
        10,
        100.0,
        "With ten neurons the kernel still changes by more than its own size.",
        "The relative kernel change of this seed is 4.0; the median over seeds is about 1.3.",
    ),
    of_width(
        1000,
        40.0,
        "With a thousand neurons the kernel is nearly constant, close to its infinite-width limit.",
        "The relative kernel change is about 0.02.",
        "It starts close to the infinite-width kernel, [[1.490278, 0.156944], [0.156944, 1.490278]].",
    ),
)
