"""Linear neurons on one point, in standard parameterization."""

from __future__ import annotations

from ntkengine.activations import Linear
from ntkengine.dynamics import (
    Data,
    GradientFlow,
    KernelRecord,
    LossRecord,
    OutputsRecord,
    RunSpec,
    SlopesRecord,
    Stop,
    WeightsRecord,
)
from ntkengine.experiments.experiment import Experiment
from ntkengine.laws import Uniform
from ntkengine.layers import Dense
from ntkengine.model import Model
from ntkengine.parameterizations import Standard

UNIT = Uniform(half_width=1.0)  # over sqrt(fan-in): the default of torch.nn.Linear

LINEAR = (
    Experiment(
        name="linear_standard_10",
        title="Ten linear neurons, standard parameterization",
        shows="A network whose output is a sum of products of two weights, fitted to one point.",
        expect=(
            "This seed reaches 1 % of its loss at time 1.1; the median over seeds is 0.61.",
            "For each neuron w^2 - v^2 keeps its value.",
        ),
        spec=RunSpec(
            model=Model(
                layers=(Dense(width=10, W_law=UNIT), Linear(), Dense(width=1, W_law=UNIT)),
                parameterization=Standard(),
            ),
            data=Data(x=[[1.0]], y=[[1.0]]),
            training=GradientFlow(t_end=20.0, stop=Stop(loss_below=1e-12)),
            record=(LossRecord(), OutputsRecord(), KernelRecord(), SlopesRecord(), WeightsRecord()),
            seed=0,
        ),
    ),
)
