"""Linear neurons on one point, in standard parameterization, each beside its linearized twin."""

from __future__ import annotations

from ntkengine.activations import Linear
from ntkengine.dynamics import (
    Data,
    GradientFlow,
    KernelRecord,
    LinearizedRecord,
    Logarithmic,
    LossRecord,
    OutputsRecord,
    PathRecord,
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
from ntkengine.parameterizations import Standard

UNIT = Uniform(half_width=1.0)  # over sqrt(fan-in): the default of torch.nn.Linear
POINT = Data(x=[[1.0]], y=[[1.0]])
SCHEDULE = Logarithmic(points=100)
PATHS: tuple[AnyRecord, ...] = tuple(
    record(schedule=SCHEDULE)
    for record in (
        LossRecord,
        OutputsRecord,
        KernelRecord,
        SlopesRecord,
        WeightsRecord,
        PathRecord,
        LinearizedRecord,
    )
)


def network(width: int) -> Model:
    """`f(x) = sum_i v_i w_i x`, w from U(-1, 1) and v from U(-1, 1) / sqrt(N)."""
    layers = (Dense(width=width, W_law=UNIT), Linear(), Dense(width=1, W_law=UNIT))
    return Model(layers=layers, parameterization=Standard())


def start(w: float, v: float) -> dict[str, list[list[float]]]:
    """One neuron on its plane."""
    return {"layers.0.W": [[w]], "layers.2.W": [[v]]}


def of_width(width: int, title: str, t_end: float, shows: str, *expect: str) -> Experiment:
    """Four seeds at that width."""
    return Experiment(
        name=f"linear_standard_{width}",
        title=f"{title}, standard parameterization",
        shows=shows,
        expect=expect,
        spec=RunSpec(
            model=network(width),
            data=POINT,
            training=GradientFlow(t_end=t_end, stop=Stop(loss_below=1e-12)),
            record=PATHS,
            seeds=(0, 1, 2, 3),
        ),
    )


LINEAR = (
    Experiment(
        name="linear_one_neuron",
        title="One linear neuron from five starts on its plane",
        shows="Weights follow hyperbolas to the solutions v w = 1; linearized ones go straight.",
        expect=(
            "w^2 - v^2 keeps its value on every path.",
            "The linearized path ends 0.10 to 0.70 of the distance travelled away from the real one.",
            "The start (1, -1) ends in the saddle (0, 0) with half of its start's error, not in a solution.",
        ),
        spec=RunSpec(
            model=network(1),
            data=POINT,
            training=GradientFlow(t_end=12.0),
            record=PATHS,
            weights=(
                start(-1.5, 0.9),
                start(-0.3, -0.5),
                start(1.1, 0.6),
                start(1.8, -0.5),
                start(1.0, -1.0),
            ),
        ),
    ),
    of_width(
        1,
        "One linear neuron",
        40.0,
        "A single neuron: far from linear in its weights.",
        "The linearized weights end 0.44 to 1.10 of the distance travelled away from the real ones.",
        "1 % of the loss is reached at times 1.8 to 4.3.",
    ),
    of_width(
        2,
        "Two linear neurons",
        40.0,
        "There is no simple curve of solutions any more.",
        "The linearized weights end 0.37 to 0.73 of the distance travelled away from the real ones.",
        "1 % of the loss is reached at times 1.3 to 2.6.",
    ),
    of_width(
        10,
        "Ten linear neurons",
        20.0,
        "A network whose output is a sum of products of two weights, fitted to one point.",
        "The linearized weights end 0.05 to 0.21 of the distance travelled away from the real ones.",
        "1 % of the loss is reached at times 0.6 to 1.1; the median over many seeds is 0.61.",
        "For each neuron w^2 - v^2 keeps its value.",
    ),
    of_width(
        100,
        "A hundred linear neurons",
        4.0,
        "Wide enough for the linearized twin to stay close, and faster: the kernel grows with the width.",
        "The linearized weights end 0.011 to 0.021 of the distance travelled away from the real ones.",
        "1 % of the loss is reached at times 0.07 to 0.08.",
    ),
)
