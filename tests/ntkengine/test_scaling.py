"""How kernels scale with the width, and the verdict on whether training leaves them constant."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkengine import EngineError, InfiniteKernel, Model, empirical_ntk, infinite_kernel
from ntkengine.infinite.scaling import Training, width_scaling
from tests.cases import ACTIVATIONS, DEEP, SHALLOW, inputs, model, with_activation
from tests.compare import assert_close

ERF: dict[str, Any] = {"kind": "erf"}
RELU: dict[str, Any] = {"kind": "relu"}
IDENTITY: dict[str, Any] = {"kind": "identity"}
NTK: dict[str, Any] = {"kind": "ntk"}
STANDARD: dict[str, Any] = {"kind": "standard"}
MUP: dict[str, Any] = {"kind": "mup"}


def scaling(layers: list[Any], **fields: Any) -> InfiniteKernel:
    return infinite_kernel(model(layers, **fields), inputs(3))


def dense(width: int | None = None, **fields: Any) -> dict[str, Any]:
    return {"kind": "dense", "width": width, **fields}


def serial(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "serial", "layers": list(layers)}


def merged(merge: str, *branches: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "parallel", "merge": merge, "branches": list(branches)}


def residual(inner: int | None = None, width: int | None = None, **last: Any) -> dict[str, Any]:
    """`x + W erf(V erf(x))`; fields of W."""
    return merged("sum", IDENTITY, serial(ERF, dense(inner), ERF, dense(width, **last)))


ONE = with_activation(SHALLOW, ACTIVATIONS[5])
TWO = with_activation(DEEP, ACTIVATIONS[5])
ABC_LIKE_NTK = {"kind": "abc", "input": {"a": 0.5}, "hidden": {"a": 0.5}, "readout": {"a": 0.5}}
ABC_LIKE_MUP = {
    "kind": "abc",
    "input": {"c": -1},
    "hidden": {"a": 0.5, "c": -1},
    "readout": {"a": 1, "c": -1},
}


@pytest.mark.parametrize(
    ("layers", "parameterization", "power", "nngp_power", "constant"),
    [
        (ONE, {"kind": "ntk"}, 0, 0, True),
        (TWO, {"kind": "ntk"}, 0, 0, True),
        (ONE, {"kind": "standard"}, 1, 0, True),
        (TWO, {"kind": "standard"}, 1, 0, True),
        (TWO, {"kind": "standard", "base_width": 8}, 0, 0, True),
        ([*ONE[:2], {"kind": "dense", "width": 1}], {"kind": "mean_field"}, -1, -1, False),
        (
            [*ONE[:2], {"kind": "dense", "width": 1}],
            {"kind": "mean_field", "lr_scale": "width"},
            -1,
            -1,
            False,
        ),
        (TWO, ABC_LIKE_NTK, 0, 0, True),
        ([*TWO[:4], {"kind": "dense", "width": 1}], ABC_LIKE_MUP, -1, -1, False),
        ([*TWO[:4], {"kind": "dense", "width": 1}], MUP, -1, -1, False),
        ([*ONE[:2], {"kind": "dense", "width": 1}], MUP, -1, -1, False),
        ([*TWO[:4], {"kind": "dense", "width": 1}], MUP | {"optimizer": "adam"}, -1, -1, False),
        ([{"kind": "dense", "width": 1}], MUP, 0, 0, True),
        ([*ONE, {"kind": "relu"}], {"kind": "ntk"}, 0, 0, False),
        ([*ONE, {"kind": "linear"}], {"kind": "ntk"}, 0, 0, True),
        (
            [{"kind": "dense", "width": 500}, {"kind": "erf"}, {"kind": "dense", "width": 2}, *ONE[1:]],
            {"kind": "ntk"},
            0,
            0,
            False,
        ),
        ([{"kind": "dense", "width": 1}], {"kind": "ntk"}, 0, 0, True),
    ],
)
def test_scaling(
    layers: list[Any], parameterization: dict[str, Any], power: int, nngp_power: int, constant: bool
) -> None:
    kernel = scaling(layers, parameterization=parameterization)
    assert kernel.scaling.to_dict() == {
        "width_power": power,
        "nngp_width_power": nngp_power,
        "constant_in_training": constant,
    }
    assert bool(kernel.warnings) != constant
    assert bool(kernel.ntk.any())


@pytest.mark.parametrize("parameterization", [{"kind": "standard"}, {"kind": "mean_field"}])
def test_the_coefficient_is_that_of_wide_networks(parameterization: dict[str, Any]) -> None:
    """The kernel of width N over N^width_power tends to the coefficient."""
    limit = infinite_kernel(
        model([*ONE[:2], {"kind": "dense", "width": 1}], parameterization=parameterization), inputs(3)
    )
    wide = model(
        [ONE[0] | {"width": 20_000}, ONE[1], {"kind": "dense", "width": 1}], parameterization=parameterization
    )
    kernel = empirical_ntk(wide.network((4,), seed=0), inputs(3)) / 20_000.0 ** float(
        limit.scaling.width_power
    )
    assert_close(kernel, limit.ntk, rtol=0.05)


def test_power_of_the_width_does_not_depend_on_the_data() -> None:
    dense = {"kind": "dense", "width": 1}
    spec = model([dense, {"kind": "linear"}, dense], parameterization={"kind": "standard"})
    x = torch.eye(2, dtype=torch.float64)
    square, corner = infinite_kernel(spec, x), infinite_kernel(spec, x[:1], x[1:])
    assert corner.scaling == square.scaling
    assert_close(square.ntk, torch.eye(2, dtype=torch.float64) / 2)
    assert float(corner.ntk) == 0.0


def test_layers_that_start_at_zero_lead_nothing() -> None:
    """Hidden weights at zero: only they move the outputs, and their share is O(1), not O(N)."""
    zero = {"kind": "dense", "W_law": {"kind": "zero"}}
    layers = [zero, {"kind": "relu"}, {"kind": "dense", "width": 1}]
    kernel = scaling(layers, parameterization={"kind": "standard"})
    assert kernel.scaling.width_power == 0
    assert bool(kernel.ntk.any())


@pytest.mark.parametrize("b", [-0.5, 0.0, 0.5])
def test_exponent_of_a_tensor_at_zero_does_not_matter(b: float) -> None:
    zero = {"kind": "dense", "width": 1, "W_law": {"kind": "zero"}}
    abc = {"kind": "abc", "input": {}, "readout": {"a": 1, "b": b}}
    kernel = scaling([ONE[0], {"kind": "erf"}, zero], parameterization=abc)
    assert not kernel.scaling.constant_in_training


def test_leading_term_of_biases_alone_is_said() -> None:
    readout = {"kind": "dense", "width": 1, "b_std": 1.0}
    kernel = scaling([*ONE[:2], readout], parameterization={"kind": "mean_field"})
    assert kernel.scaling.width_power == 0
    assert any("biases alone" in warning for warning in kernel.warnings)


@pytest.mark.parametrize(
    ("parameterization", "power", "nngp_power", "constant"),
    [(NTK, 0, 0, True), (STANDARD, 1, 0, True), (MUP, -1, -1, False)],
    ids=["ntk", "standard", "mup"],
)
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("start", ["normal", "zero"])
def test_residual_networks(
    parameterization: dict[str, Any], power: int, nngp_power: int, constant: bool, blocks: int, start: str
) -> None:
    """Also where each branch starts at zero, as is usual."""
    block = residual(W_law={"kind": start})
    layers = [dense(), {"kind": "repeat", "times": blocks, "layer": block}, dense(1)]
    kernel = scaling(layers, parameterization=parameterization)
    assert kernel.scaling.to_dict() == {
        "width_power": power,
        "nngp_width_power": nngp_power,
        "constant_in_training": constant,
    }
    if not constant:
        assert "features move by as much as the outputs do" in kernel.warnings[0]


def reasons(*layers: dict[str, Any], parameterization: dict[str, Any] = NTK) -> tuple[str, ...]:
    """Why the kernel of these layers is not constant; nothing but their places is asked for."""
    site = model(list(layers), parameterization=parameterization).place((4,))
    return width_scaling(site, Fraction(0), Fraction(0)).reasons


@pytest.mark.parametrize(
    ("layers", "path"),
    [
        ([dense(), residual(), RELU], "layers.2"),
        ([dense(), ERF, residual()], "layers.1"),  # through the skip
        ([dense(), residual(), dense(1), serial(IDENTITY, RELU)], "layers.3.layers.1"),
        ([dense(), merged("sum", dense(1), serial(dense(1), ERF))], "layers.1.branches.1.layers.1"),
        ([dense(), ERF, merged("product", dense(1), dense(1))], "layers.2"),
        ([merged("product", dense(1), serial(dense(), ERF, dense(1)))], "layers.0"),
    ],
)
def test_what_acts_on_the_outputs_is_found_in_any_branch(layers: list[Any], path: str) -> None:
    (reason,) = reasons(*layers)
    assert f" {path} (" in reason
    assert "acts on the outputs" in reason


@pytest.mark.parametrize(
    "layers",
    [
        [dense(), residual()],
        [merged("sum", dense(1), serial(dense(), ERF, dense(1)))],
        [RELU, merged("concat", IDENTITY, serial(dense(), ERF, dense(1)))],
        [merged("product", RELU, serial(dense(), ERF, dense(4)))],  # a fixed factor on each output
        [dense(), ERF, merged("product", dense(), dense()), dense(1)],
        [dense(), residual(), dense(1), {"kind": "linear"}],
    ],
)
def test_outputs_that_nothing_acts_on(layers: list[Any]) -> None:
    assert reasons(*layers) == ()


@pytest.mark.parametrize(
    ("layers", "source"),
    [
        ([dense(500), residual(20, 500), dense(1)], "layers.1.branches.1.layers.1"),
        ([dense(500), serial(ERF, dense(20)), ERF, dense(500), ERF, dense(1)], "layers.1.layers.1"),
        ([dense(500), ERF, merged("concat", dense(20), dense(20)), ERF, dense(1)], "layers.2"),
        (
            [dense(500), ERF, merged("concat", dense(400), serial(dense(20), ERF, dense(100))), dense(1)],
            "layers.2.branches.1.layers.0",
        ),
    ],
)
def test_narrow_features(layers: list[Any], source: str) -> None:
    (reason,) = reasons(*layers)
    assert f"if {source}, of width" in reason
    assert "bottleneck" in reason


@pytest.mark.parametrize(
    "layers",
    [
        [dense(500), residual(100, 500), dense(1)],
        # few features beside many are not seen alone
        [dense(500), ERF, merged("concat", dense(480), dense(20)), ERF, dense(1)],
        [merged("concat", IDENTITY, dense(500)), ERF, dense(1)],
        [dense(500), ERF, merged("sum", dense(3), serial(dense(500), ERF, dense(3)))],
    ],
)
def test_features_that_are_not_narrow(layers: list[Any]) -> None:
    assert reasons(*layers) == ()


PARAMETERIZATIONS = [
    NTK,
    STANDARD,
    MUP,
    {"kind": "abc", "input": {}, "hidden": {"a": 0.25, "b": 0.25}, "readout": {"b": 1}},
    {"kind": "abc", "input": {}, "hidden": {"b": 0.75}, "readout": {"a": 0.5}},
    {"kind": "abc", "input": {}, "hidden": {"a": 1}, "readout": {"b": 0.25}},
]


def layers_of(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """A random layer that keeps the number of features, linear in them but for products."""
    if not depth:
        return st.sampled_from([dense(6), IDENTITY])
    inner = layers_of(depth - 1)
    last = st.sampled_from([dense(6), dense(6), dense(6, W_law={"kind": "zero"})])
    fresh = st.builds(lambda layers, end: serial(*layers, end), st.lists(inner, max_size=2), last)
    return st.one_of(
        inner,
        st.builds(merged, st.sampled_from(["sum", "product"]), st.one_of(st.just(IDENTITY), fresh), fresh),
        st.builds(lambda layer: {"kind": "repeat", "times": 2, "layer": layer}, inner),
    )


@settings(max_examples=150, deadline=None)
@given(layers=st.lists(layers_of(2), max_size=4), parameterization=st.sampled_from(PARAMETERIZATIONS))
def test_powers_are_those_of_the_rules(
    layers: list[dict[str, Any]], parameterization: dict[str, Any]
) -> None:
    """The power of the NTK from exponents alone, against the one that the rules carry along."""
    spec = model([dense(6), *layers, dense(2)], parameterization=parameterization)
    try:
        kernel = infinite_kernel(spec, inputs(2))
    except EngineError:  # it grows with the width
        return
    if bool(kernel.ntk.any()):
        assert Training(spec.place((4,))).ntk_power == kernel.scaling.width_power


def relative_change(spec: Model, seed: int) -> float:
    """`|Theta_T - Theta_0| / |Theta_0|` of gradient descent, with most of the loss gone."""
    x, y = inputs(4), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
    network = spec.network((4,), seed=seed)
    start = empirical_ntk(network, x)
    step = 0.3 / float(torch.linalg.eigvalsh(empirical_ntk(network, x, with_rates=True))[-1])
    groups = [
        {"params": [tensor], "lr": step * network.rates()[name]} for name, tensor in network.trained().items()
    ]
    optimizer = torch.optim.SGD(groups)
    for _ in range(100):
        optimizer.zero_grad()
        (0.5 * (network(x) - y) ** 2).sum().backward()
        optimizer.step()
    return float((empirical_ntk(network, x) - start).norm() / start.norm())


@pytest.mark.parametrize(
    ("layers", "parameterization", "widths", "falls"),
    [
        (lambda n: [dense(n), residual(n, n), ERF], NTK, (32, 256), True),
        (lambda n: [dense(n), residual(n, n), ERF], STANDARD, (32, 256), True),
        (lambda n: [dense(n), residual(n, n), ERF], MUP, (32, 256), False),
        (lambda n: [dense(n), residual(4, n), ERF], NTK, (128, 1024), False),
        (lambda n: [dense(n), residual(4, n), ERF], STANDARD, (128, 1024), False),
        (lambda n: [dense(n), ERF, merged("concat", dense(n - 4), dense(4)), ERF], NTK, (32, 256), True),
        (lambda n: [dense(n), residual(n, n, W_law={"kind": "zero"}), ERF], STANDARD, (32, 256), True),
        (lambda n: [dense(n, W_law={"kind": "zero"}), ERF], NTK, (64, 1024), True),
        (lambda n: [dense(n, W_law={"kind": "zero"}), ERF], STANDARD, (64, 1024), False),
    ],
    ids=[
        "ntk",
        "standard",
        "mup",
        "ntk-narrow",
        "standard-narrow",
        "ntk-narrow-beside-wide",
        "standard-branch-from-zero",
        "ntk-from-zero",
        "standard-from-zero",
    ],
)
def test_verdicts_are_what_training_does(
    layers: Any, parameterization: dict[str, Any], widths: tuple[int, int], falls: bool
) -> None:
    """The relative kernel change falls with the width where the verdict says constant, and not elsewhere."""
    changes = []
    for n in widths:
        spec = model([*layers(n), dense(1)], parameterization=parameterization)
        verdict = width_scaling(spec.place((4,)), Fraction(0), Fraction(0))
        assert verdict.constant_in_training == falls
        changes.append(np.median([relative_change(spec, seed) for seed in range(8)]))
    slope = np.polyfit(np.log(widths), np.log(changes), 1)[0]
    assert slope < -0.5 if falls else slope > -0.25
