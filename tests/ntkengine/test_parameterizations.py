"""muP, held to mean field, to its authors' own forms, and to what it is for."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ntkengine import Model, RunSpec, empirical_ntk, infinite_kernel, train
from ntkengine.network import Network
from ntkengine.parameterizations import AnyParameterization, Parameterization, Role
from ntkengine.spec import from_jsonable
from tests.cases import inputs, model
from tests.compare import assert_close

ERF = {"kind": "erf"}
READOUT = {"kind": "dense", "width": 1}
MEAN_FIELD = {"kind": "mean_field", "lr_scale": "width"}
X, Y = inputs(5, 3), inputs(5, 1, seed=1)


def mup(optimizer: str = "sgd") -> dict[str, Any]:
    return {"kind": "mup", "optimizer": optimizer}


def network_of(depth: int, width: int, parameterization: dict[str, Any], start: str = "raw") -> Model:
    """A network with that many hidden layers, without biases."""
    hidden = [{"kind": "dense", "width": width}, ERF] * depth
    return model([*hidden, READOUT], parameterization=parameterization, initial_function=start)


def table(parameterization: dict[str, Any]) -> dict[Role, tuple[Fraction, Fraction, Fraction]]:
    """(a, b, c) by role."""
    spec: Parameterization = from_jsonable(AnyParameterization, parameterization)
    return {role: (row.a, row.b, row.c) for role, row in spec.table().items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_function_does_not_depend_on_the_optimizer(optimizer: str) -> None:
    one, half, zero = Fraction(1), Fraction(1, 2), Fraction(0)
    multipliers = {Role.INPUT: (half, zero), Role.HIDDEN: (half, zero), Role.READOUT: (one, zero)}
    assert {role: row[:2] for role, row in table(mup(optimizer)).items()} == multipliers


def test_one_hidden_layer_is_mean_field() -> None:
    mean_field = table(MEAN_FIELD)
    assert {role: table(mup())[role] for role in mean_field} == mean_field


def test_kernels_with_one_hidden_layer_are_those_of_mean_field() -> None:
    """With the read-out's bias inside the scaling; outside of it muP trains it at the plain rate."""
    layers = [
        {"kind": "dense", "width": 7, "W_std": 1.3, "b_std": 0.4},
        ERF,
        {"kind": "dense", "width": 2, "b_std": 0.3, "b_placement": "scaled"},
    ]
    ours, theirs = model(layers, parameterization=mup()), model(layers, parameterization=MEAN_FIELD)
    for name in ("nngp", "ntk", "scaling"):
        mine, other = (getattr(infinite_kernel(each, X), name) for each in (ours, theirs))
        assert torch.equal(mine, other) if isinstance(mine, Tensor) else mine == other
    first, second = (
        empirical_ntk(each.network((3,), seed=3), X, outputs="full", with_rates=True)
        for each in (ours, theirs)
    )
    assert_close(first, second, rtol=1e-14)


def outputs_along_descent(spec: Model, steps: int, learning_rate: float) -> np.ndarray:
    """Recorded outputs (steps + 1, n, 1) of gradient descent."""
    every = {"kind": "every", "steps": 1}
    run: RunSpec = from_jsonable(
        RunSpec,
        {
            "model": spec,
            "data": {"x": X.tolist(), "y": Y.tolist()},
            "training": {"kind": "gradient_descent", "learning_rate": learning_rate, "steps": steps},
            "record": [{"what": "outputs", "schedule": every}],
            "seed": 4,
        },
    )
    return np.array([point.values["outputs"] for segment in train(run) for point in segment.points])


def test_training_with_one_hidden_layer_is_that_of_mean_field() -> None:
    ours, theirs = (outputs_along_descent(network_of(1, 40, p), 60, 0.3) for p in (mup(), MEAN_FIELD))
    assert np.abs(ours[-1] - ours[0]).max() > 0.5
    assert_close(ours, theirs, rtol=1e-10)


def outputs_in_another_form(
    tensors: list[Tensor], multipliers: list[float], optimizer: torch.optim.Optimizer, steps: int
) -> np.ndarray:
    """Outputs along training of `m3 erf(m2 erf(m1 x / sqrt(d) W1) W2) W3`."""
    recorded = []
    for _ in range(steps + 1):
        y = X / X.shape[1] ** 0.5
        for index, (w, multiplier) in enumerate(zip(tensors, multipliers, strict=True)):
            y = multiplier * (torch.erf(y) if index else y) @ w
        recorded.append(y.detach().numpy())
        optimizer.zero_grad()
        (0.5 * (y - Y) ** 2).sum().backward()
        optimizer.step()
    return np.array(recorded)


def scaled_draws(spec: Model, scales: list[float]) -> list[Tensor]:
    """The draws of the spec's network, each tensor times a number."""
    drawn = spec.network((3,), seed=4).trained().values()
    return [(w.detach() * s).requires_grad_() for w, s in zip(drawn, scales, strict=True)]


def test_sgd_is_the_table_of_yang_and_hu() -> None:
    """a = -1/2, 0, 1/2 in the width, b = 1/2, c = 0: the same functions all along, from the same draws."""
    n, eta, steps = 30, 0.2, 40
    spec = network_of(2, n, mup())
    tensors = scaled_draws(spec, [n**-0.5] * 3)
    theirs = outputs_in_another_form(tensors, [n**0.5, 1.0, n**-0.5], torch.optim.SGD(tensors, lr=eta), steps)
    assert np.abs(theirs[-1] - theirs[0]).max() > 0.5
    assert_close(outputs_along_descent(spec, steps, eta), theirs, rtol=1e-10)


def optimizer_of(network: Network, kind: Callable[..., Any], eta: float, **options: Any) -> Any:
    """A torch optimizer with the spec's learning rates."""
    groups = [{"params": [p], "lr": eta * network.rates()[name]} for name, p in network.trained().items()]
    return kind(groups, **options)


def test_adam_is_table_8_of_tensor_programs_v() -> None:
    """Laws 1, 1/N, 1 (variances), multipliers 1, 1, 1/N, rates 1, 1/N, 1."""
    n, eta, steps = 30, 0.02, 40
    spec = network_of(2, n, mup("adam"))
    tensors = scaled_draws(spec, [1.0, n**-0.5, 1.0])
    rates = [eta, eta / n, eta]
    groups = [{"params": [w], "lr": lr} for w, lr in zip(tensors, rates, strict=True)]
    theirs = outputs_in_another_form(tensors, [1.0, 1.0, 1 / n], torch.optim.Adam(groups, eps=1e-30), steps)
    network = spec.network((3,), seed=4)
    optimizer, ours = optimizer_of(network, torch.optim.Adam, eta, eps=1e-30), []
    for _ in range(steps + 1):
        y = network(X)
        ours.append(y.detach().numpy())
        optimizer.zero_grad()
        (0.5 * (y - Y) ** 2).sum().backward()
        optimizer.step()
    assert np.abs(theirs[-1] - theirs[0]).max() > 0.5
    assert_close(np.array(ours), theirs, rtol=1e-10)


def feature_movement(
    parameterization: dict[str, Any], kind: Callable[..., Any], eta: float, n: int, seed: int
) -> float:
    """How far what arrives at the read-out moves in five steps from f = 0, relative to its start."""
    network = network_of(2, n, parameterization, "centred").network((3,), seed=seed)
    before = network.layers[:-1]
    optimizer = optimizer_of(network, kind, eta)

    def features() -> Tensor:
        h = X
        with torch.no_grad():
            for layer in before:
                h = layer(h)
        return h

    start = features()
    for _ in range(5):
        optimizer.zero_grad()
        (0.5 * (network(X) - Y) ** 2).sum().backward()
        optimizer.step()
    return float((features() - start).norm() / start.norm())


@pytest.mark.parametrize(
    ("parameterization", "kind", "eta", "slope"),
    [
        (mup(), torch.optim.SGD, 0.1, 0.0),
        (mup("adam"), torch.optim.Adam, 0.02, 0.0),
        (mup("adam"), torch.optim.SGD, 0.1, -1.0),
        ({"kind": "ntk"}, torch.optim.SGD, 0.1, -0.5),
    ],
    ids=["mup-sgd", "mup-adam", "rates-of-adam-for-sgd", "ntk-sgd"],
)
def test_features_move_by_the_same_at_every_width(
    parameterization: dict[str, Any], kind: Callable[..., Any], eta: float, slope: float
) -> None:
    """Movement falls as N^-r: r = 0 in muP under the optimizer it is for, and 1/2 in the kernel regime."""
    widths = [64, 128, 256, 512, 1024]
    moved = [
        np.median([feature_movement(parameterization, kind, eta, n, seed) for seed in range(16)])
        for n in widths
    ]
    assert np.polyfit(np.log(widths), np.log(moved), 1)[0] == pytest.approx(slope, abs=0.05)


@pytest.mark.parametrize(("optimizer", "expected"), [("sgd", (64, 64, 1)), ("adam", (1, 1, 1))])
def test_rates_of_biases(optimizer: str, expected: tuple[int, ...]) -> None:
    """A read-out bias outside the scaling is trained at the plain rate, or it would move the outputs by N."""
    hidden = {"kind": "dense", "width": 64, "b_std": 0.4}
    layers = [hidden, ERF, hidden, ERF, {"kind": "dense", "width": 1, "b_std": 0.3}]
    network = model(layers, parameterization=mup(optimizer)).network((3,), seed=0)
    rates = network.rates()
    assert tuple(rates[f"layers.{i}.b"] for i in (0, 2, 4)) == expected
    if optimizer == "sgd":
        largest = float(torch.linalg.eigvalsh(empirical_ntk(network, X, with_rates=True))[-1])
        assert largest < 20.0
