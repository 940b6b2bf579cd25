"""Draws are paired: over parameterizations, widths and copies."""

from typing import Any

import numpy as np
import pytest
import torch

from ntkengine import Model, Normal
from ntkengine.layer import RowStreams
from ntkengine.network import Network
from tests.cases import ACTIVATIONS, DEEP, PARAMETERIZATIONS, inputs, model, with_activation

LAYERS = with_activation(DEEP, ACTIVATIONS[5])


def network(seed: int = 0, width: int = 9, **fields: Any) -> Network:
    layers = [layer | {"width": width} if layer.get("width", 3) != 3 else layer for layer in LAYERS]
    return model(layers, **fields).network((4,), seed=seed)


def raw(net: Network) -> dict[str, np.ndarray]:
    return {name: p.numpy(force=True) for name, p in net.named_parameters()}


def test_a_seed_is_a_network() -> None:
    first, again, other = raw(network(3)), raw(network(3)), raw(network(4))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert all(not np.array_equal(first[name], other[name]) for name in first)


def test_layers_have_streams_of_their_own() -> None:
    tensors = raw(network())
    assert not np.array_equal(tensors["layers.0.W"][:3, :9], tensors["layers.2.W"][:3, :9])
    assert not np.array_equal(tensors["layers.0.b"], tensors["layers.0.W"][0])


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS[1:])
def test_raw_draws_do_not_depend_on_the_parameterization(parameterization: dict[str, Any]) -> None:
    plain, other = raw(network()), raw(network(parameterization=parameterization))
    for name, tensor in plain.items():
        assert np.ptp(other[name] / tensor) < 1e-12  # the same draws, up to one factor


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_widths_are_nested(parameterization: dict[str, Any]) -> None:
    narrow, wide = (raw(network(width=n, parameterization=parameterization)) for n in (8, 16))
    for name, tensor in narrow.items():
        corner = wide[name][tuple(slice(0, size) for size in tensor.shape)]
        assert np.ptp(corner / tensor) < 1e-12


def test_rows_do_not_repeat_each_other() -> None:
    matrix = RowStreams(0, (0,)).matrix(Normal(), 0, 50, 2000)
    correlations = np.corrcoef(matrix) - np.eye(50)
    assert np.abs(correlations).max() < 6 / np.sqrt(2000)


@pytest.mark.parametrize("start", ["centred", "doubled"])
def test_starts_at_zero(start: str) -> None:
    x = inputs(5)
    assert torch.equal(network(initial_function=start)(x), torch.zeros(5, 3, dtype=torch.float64))


def test_output_scale_multiplies_the_function() -> None:
    x = inputs(5)
    assert torch.allclose(network(output_scale=3.0)(x), 3 * network()(x), rtol=1e-14)


def test_weights_of_the_effective_network() -> None:
    """`W_std n^-a w` with `w ~ law / n^b`: in NTK and in standard parameterization the same function."""
    x = inputs(5)
    ntk, standard = network(), network(parameterization={"kind": "standard"})
    assert torch.allclose(ntk(x), standard(x), rtol=1e-13)


def test_rates() -> None:
    spec: Model = model(
        LAYERS,
        parameterization={"kind": "abc", "input": {"c": 1}, "hidden": {"c": -1}, "readout": {"c": 0.5}},
    )
    rates = spec.network((4,)).rates()
    expected = {"layers.0": 1 / 9, "layers.2": 9.0, "layers.4": 7**-0.5}
    assert rates == {name: expected[name.rpartition(".")[0]] for name in rates}
    assert len(rates) == 6
    alone = model([LAYERS[0]], parameterization={"kind": "mean_field", "lr_scale": "width"})
    assert alone.network((4,)).rates() == {"layers.0.W": 1.0, "layers.0.b": 1.0}  # no hidden width
