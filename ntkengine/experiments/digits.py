"""A ReLU network on scikit-learn's digits."""

from __future__ import annotations

from ntkengine.activations import Relu
from ntkengine.data import Dataset
from ntkengine.dynamics import (
    Data,
    GradientDescent,
    KernelRecord,
    Logarithmic,
    LossRecord,
    OutputsRecord,
    RunSpec,
    SlopesRecord,
)
from ntkengine.experiments.experiment import Experiment
from ntkengine.layers import Dense
from ntkengine.model import Model

TRAIN = Dataset(name="digits", split="train", limit=200)
TEST = Dataset(name="digits", split="test", limit=50)
EVERY = Logarithmic(points=100)
SELDOM = Logarithmic(points=20)

DIGITS = (
    Experiment(
        name="digits_relu",
        title="A ReLU network of width 256 on 200 digits",
        shows="The same quantities on real images: the kernel changes while the network fits them.",
        expect=(
            "The loss falls by two orders of magnitude.",
            "Predicted slopes follow measured ones, to 2 % at the start: that is the size of the step.",
            "Later training inputs sit on kinks, where single steps switch neurons on and off: up to 10 %.",
        ),
        spec=RunSpec(
            model=Model(
                layers=(Dense(width=256, W_std=2**0.5, b_std=0.1), Relu(), Dense(width=10, b_std=0.1)),
            ),
            data=Data(x=TRAIN, y=TRAIN, x_test=TEST),
            training=GradientDescent(learning_rate=0.01, steps=5000),
            record=(
                LossRecord(schedule=EVERY),
                OutputsRecord(schedule=SELDOM),
                KernelRecord(schedule=SELDOM),
                SlopesRecord(schedule=SELDOM),
            ),
            seed=0,
        ),
    ),
)
