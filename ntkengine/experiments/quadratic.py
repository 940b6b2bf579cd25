"""The quadratic network of one hidden layer on two points, in every parameterization."""

from __future__ import annotations

from dataclasses import replace

from ntkengine.activations import Quadratic, Tanh
from ntkengine.dynamics import (
    Data,
    ErrorsRecord,
    GradientFlow,
    KernelDistanceRecord,
    KernelRecord,
    Logarithmic,
    LossRecord,
    MeanFieldFlow,
    OutputsRecord,
    RunSpec,
    SlopesRecord,
    Stop,
    WeightsRecord,
)
from ntkengine.dynamics.records import AnyRecord
from ntkengine.dynamics.spec import AnyTraining
from ntkengine.experiments.experiment import Experiment
from ntkengine.laws import Uniform
from ntkengine.layers import Dense
from ntkengine.model import Model
from ntkengine.parameterizations import NTK, AnyParameterization, MeanField, Standard

DATA = Data(x=[[1.0], [-1.0]], y=[[1.0], [1.0]], x_test=[[0.5], [0.0], [-0.5]])
SCHEDULE = Logarithmic(points=200)
UNSCALED, SCALED = MeanField(lr_scale="none"), MeanField(lr_scale="width")


KINDS = (
    LossRecord,
    OutputsRecord,
    ErrorsRecord,
    KernelRecord,
    KernelDistanceRecord,
    SlopesRecord,
    WeightsRecord,
)
RECORDS: tuple[AnyRecord, ...] = tuple(kind(schedule=SCHEDULE) for kind in KINDS)


def network(width: int, parameterization: AnyParameterization | None = None) -> Model:
    """`f(x) = C sum_i v_i (w_i x + b_i)^2`, w and v from U(-1, 1), b from U(-1/2, 1/2); C = N^-1/2 in NTK
    parameterization, 1/N in mean field; in standard parameterization 1, with v over sqrt(N)."""
    weight = Uniform(half_width=1.0)
    hidden = Dense(width=width, W_law=weight, b_std=1.0, b_law=Uniform(half_width=0.5))
    layers = (hidden, Quadratic(), Dense(width=1, W_law=weight))
    return Model(layers=layers, parameterization=parameterization or NTK())


def of_width(width: int, t_end: float, shows: str, *expect: str) -> Experiment:
    """The experiment at that width in NTK parameterization, from drawn weights."""
    title = f"{width} quadratic neurons, NTK parameterization"
    training = GradientFlow(t_end=t_end, stop=Stop(loss_below=1e-12))
    return drawn(f"quadratic_ntk_{width}", title, network(width), training, shows, *expect)


def drawn(name: str, title: str, model: Model, training: AnyTraining, shows: str, *expect: str) -> Experiment:
    """The experiment with that network, from drawn weights."""
    run = RunSpec(model=model, data=DATA, training=training, record=RECORDS, seed=0)
    return Experiment(name=name, title=title, shows=shows, expect=expect, spec=run)


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
    drawn(
        "quadratic_standard_10",
        "10 quadratic neurons, standard parameterization",
        network(10, Standard()),
        GradientFlow(t_end=20.0, stop=Stop(loss_below=1e-12)),
        "Without the scaling by the width the kernel is larger and training faster.",
        "The kernel starts at 4.8 on (1, 1), 6.6 times that of NTK parameterization from the same draws.",
        "1 % of the loss is reached at time 1.2; the relative kernel change is 1.1.",
    ),
    drawn(
        "quadratic_standard_1000",
        "1000 quadratic neurons, standard parameterization",
        network(1000, Standard()),
        GradientFlow(t_end=0.4, stop=Stop(loss_below=1e-12)),
        "The kernel grows with the width, and yet it changes even less than in NTK parameterization.",
        "The kernel starts at 397 on (1, 1), and 1 % of the loss is reached at time 0.0047.",
        "The relative kernel change is 1.2e-4; in NTK parameterization it is 0.024.",
    ),
    drawn(
        "quadratic_mean_field_10",
        "10 quadratic neurons, mean-field parameterization",
        network(10, UNSCALED),
        GradientFlow(t_end=600.0, stop=Stop(loss_below=1e-12)),
        "A small kernel and a slow start; then the kernel grows, and the loss falls while it does.",
        "The kernel starts at 0.073 on (1, 1) and ends at 1.3: a relative change of 22.",
        "1 % of the loss is reached at time 6.7.",
    ),
    drawn(
        "quadratic_mean_field_1000",
        "1000 quadratic neurons, mean-field parameterization, learning rates proportional to N",
        network(1000, SCALED),
        GradientFlow(t_end=60.0, stop=Stop(loss_below=1e-12)),
        "With such rates training takes no longer at any width, and features are learnt at every width.",
        "1 % of the loss is reached at time 0.35, as by infinitely many neurons.",
        "The relative kernel change is 11; without rates proportional to N time would be 1000 times longer.",
    ),
    drawn(
        "quadratic_mean_field_limit",
        "Infinitely many quadratic neurons, mean-field limit",
        network(1, SCALED),
        MeanFieldFlow(t_end=60.0, stop=Stop(loss_below=1e-12)),
        "The distribution of neurons moves in weight space; wide mean-field networks follow it.",
        "The kernel grows from 1.490 to 16.83 on (1, 1): a relative change of 10.3.",
        "1 % of the loss is reached at time 0.35.",
    ),
    drawn(
        "quadratic_ntk_10_scaled",
        "10 quadratic neurons times 10, from f = 0",
        replace(network(10), output_scale=10.0, initial_function="centred"),
        GradientFlow(t_end=1.0, stop=Stop(loss_below=1e-12)),
        "A large output scale alpha makes even a narrow network lazy: linear without being wide.",
        "The relative kernel change is 0.24; it is 4.0 for the same draws without the factor.",
    ),
    Experiment(
        name="quadratic_ntk_1000_tanh",
        title="1000 quadratic neurons under a tanh",
        shows="An activation on the output breaks the constancy of the kernel at every width.",
        expect=(
            "The kernel has the factor (1 - f(x)^2) (1 - f(x')^2), which falls from 1 to 0.75^2 at f = 0.5.",
            "The relative kernel change is 0.43, where without the tanh it is 0.024 with targets 1.",
        ),
        spec=RunSpec(
            model=replace(network(1000), layers=(*network(1000).layers, Tanh())),
            data=replace(DATA, y=[[0.5], [0.5]]),
            training=GradientFlow(t_end=40.0, stop=Stop(loss_below=1e-12)),
            record=RECORDS,
            seed=0,
        ),
    ),
)
