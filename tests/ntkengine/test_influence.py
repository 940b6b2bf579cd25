"""One more training point, measured and predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ntkengine import Data, Dense, EngineError, GradientFlow, Linear, Model, Tanh
from ntkengine.influence import InfluenceSpec, influence
from ntkengine.losses import CrossEntropy
from tests.compare import assert_close

MODEL = Model(layers=(Dense(width=256, b_std=0.5), Tanh(), Dense(width=1)))
DATA = Data(x=[[-1.0], [0.0]], y=[[0.5], [0.0]])


def spec(**fields: Any) -> InfluenceSpec:
    start = {"model": MODEL, "data": DATA, "x_new": [[1.0]], "y_new": [[0.5]], "points": [[0.5], [1.0]]}
    return InfluenceSpec(**{**start, **fields})


def test_a_model_that_is_linear_in_its_weights_moves_as_predicted() -> None:
    """And after the first training `f = w x`, it is the least-squares line through all points."""
    model = Model(layers=(Dense(width=1),))
    data = Data(x=[[1.0]], y=[[1.0]])
    found = influence(
        spec(model=model, data=data, x_new=[[2.0]], y_new=[[1.0]], points=[[1.0], [3.0]],
             training=GradientFlow(t_end=50.0, rtol=1e-10, atol=1e-12))
    )  # fmt: skip
    assert_close(found.predicted, found.moved, rtol=1e-7)
    assert_close(found.before, [[1.0], [3.0]], rtol=1e-7)
    assert_close(found.after, [[0.6], [1.8]], rtol=1e-7)  # sum x y / sum x^2 = 3 / 5
    assert_close(found.weight, [2.0, 6.0])


def test_wider_networks_follow_their_kernel_better() -> None:
    errors = []
    for width in (16, 1024):
        model = Model(layers=(Dense(width=width, b_std=0.5), Tanh(), Dense(width=1)))
        errors.append(np.median([influence(spec(model=model, seed=s)).relative_error for s in range(5)]))
    assert errors[1] < errors[0] / 4


def test_the_new_point_is_learned() -> None:
    found = influence(spec())
    assert abs(found.before[1, 0] - 0.5) > 0.1
    assert_close(found.after[1], [0.5], rtol=0.05)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"x_new": [[1.0], [2.0]], "y_new": [[1.0]]}, "/x_new"),
        ({"y_new": [[1.0, 2.0]]}, "/y_new"),
        ({"points": [[1.0, 2.0]]}, "/points"),
        ({"model": Model(layers=(Dense(width=4), Linear(), Dense(width=1)), initial_function="centred")},
         "/model/initial_function"),
        ({"training": GradientFlow(t_end=1.0, loss=CrossEntropy())}, "/training/loss"),
    ],
)  # fmt: skip
def test_errors_say_where(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(EngineError) as caught:
        spec(**fields).check()
    assert caught.value.pointer == pointer
