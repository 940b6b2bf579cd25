import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkengine import (
    EngineError,
    InfiniteKernel,
    NumericalError,
    empirical_nngp,
    empirical_ntk,
    infinite_kernel,
)
from ntkengine.activations import Activation
from ntkengine.analysis import diagnose
from ntkengine.layers import AnyLayer
from ntkengine.spec import from_jsonable
from tests.cases import (
    ACTIVATIONS,
    DEEP,
    HALF,
    INFINITE_ONLY,
    SHALLOW,
    UNIFORM,
    inputs,
    model,
    named,
    quadratic,
    with_activation,
)
from tests.compare import assert_close

POINTS = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
NORMAL = {"W_law": {"kind": "normal", "scale": 3**-0.5}, "b_law": {"kind": "normal", "scale": 12**-0.5}}

POLYNOMIALS = ("linear", "quadratic", "monomial", "hermite", "polynomial")


def read_out(**fields: Any) -> dict[str, Any]:
    return {"kind": "dense", "width": 1, "W_law": UNIFORM} | fields


@pytest.mark.parametrize(
    ("hidden", "diagonal", "off"),
    [
        ({}, 1073 / 720, 113 / 720),
        (NORMAL, 235 / 144, 43 / 144),
        ({"b_law": {"kind": "zero"}}, 49 / 45, 1 / 5),
        ({"b_std": None}, 29 / 45, 29 / 45),
    ],
    ids=["uniform", "normal", "bias-from-zero", "no-bias"],
)
def test_numbers_of_the_notes(hidden: dict[str, Any], diagonal: float, off: float) -> None:
    kernel = infinite_kernel(quadratic(**hidden), POINTS)
    assert_close(kernel.ntk, [[diagonal, off], [off, diagonal]], rtol=1e-13)
    assert kernel.method == "moments"


@pytest.mark.parametrize(
    ("law", "order"),
    [(UNIFORM, 9), ({"kind": "laplace", "scale": 0.7}, 12), ({"kind": "rademacher", "scale": 0.8}, 2)],
    ids=lambda each: each["kind"] if isinstance(each, dict) else str(each),
)
@pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if a["kind"] in POLYNOMIALS], ids=named)
def test_any_first_law_against_its_nodes(law: dict[str, Any], order: int, activation: dict[str, Any]) -> None:
    """The formula of science: expectations over the law of (w, b), by a product rule that is exact here."""
    nodes, weights = rule(law, order)
    grid = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), -1).reshape(-1, 3)
    probability = np.prod(np.stack(np.meshgrid(weights, weights, weights, indexing="ij"), -1), -1).ravel()
    x = inputs(4, 2).numpy()
    c_w, c_b, c_v = 1.1 / math.sqrt(2), 0.6, 0.9
    z = c_w * grid[:, :2] @ x.T + c_b * grid[:, 2:]
    layer: Activation = from_jsonable(AnyLayer, activation)
    s, ds = values_and_derivatives(layer, z)
    v2 = 1 / 3  # of the uniform read-out
    theta = c_v**2 * (
        np.einsum("p,pi,pj->ij", probability, s, s)
        + v2 * np.einsum("p,pi,pj->ij", probability, ds, ds) * (c_w**2 * x @ x.T + c_b**2)
    )
    hidden = {"kind": "dense", "W_std": 1.1, "b_std": 0.6, "W_law": law, "b_law": law}
    spec = model([hidden, activation, read_out(W_std=0.9)])
    assert_close(infinite_kernel(spec, torch.from_numpy(x)).ntk, theta, rtol=1e-12)


def rule(law: dict[str, Any], order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and probabilities of a quadrature rule that is exact for the moments used here."""
    if law["kind"] == "uniform":
        nodes, weights = np.polynomial.legendre.leggauss(order)
        return nodes, weights / 2
    if law["kind"] == "rademacher":
        return np.array([-1.0, 1.0]) * law["scale"], np.array([0.5, 0.5])
    nodes, weights = np.polynomial.laguerre.laggauss(order)
    scaled = nodes * law["scale"] / math.sqrt(2)
    return np.concatenate([-scaled, scaled]), np.concatenate([weights, weights]) / 2


def values_and_derivatives(layer: Activation, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tensor = torch.from_numpy(z).requires_grad_()
    value = layer.function(tensor)
    return value.numpy(force=True), torch.autograd.grad(value.sum(), tensor)[0].numpy(force=True)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=named)
@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_wide_networks_average_to_the_limit(activation: dict[str, Any], parameterization: str) -> None:
    """The mean of 30 networks of width 200 lies within 4 standard errors of the limit."""
    wide = [
        layer | {"width": 200} if layer["kind"] == "dense" else layer
        for layer in with_activation(SHALLOW, activation)
    ]
    wide[2] = wide[2] | {"width": 3}
    spec = model(wide, parameterization={"kind": parameterization})
    x = inputs(4)
    limit = infinite_kernel(spec, x, widths="as_given")
    networks = [spec.network((4,), seed=seed) for seed in range(30)]
    for kernel, expected in ((empirical_ntk, limit.ntk), (empirical_nngp, limit.nngp)):
        samples = torch.stack([kernel(network, x) for network in networks])
        spread = samples.std(0) / math.sqrt(len(networks))
        assert bool(((samples.mean(0) - expected).abs() <= 4 * spread + 1e-12).all())


@pytest.mark.long
def test_deep_network_whose_first_law_is_not_gaussian() -> None:
    """The first layer keeps its law, the second is Gaussian; the all-Gaussian recursion is far off."""
    laplace = {"kind": "laplace", "scale": 1.0}
    layers: list[dict[str, Any]] = [
        {"kind": "dense", "width": 1500, "W_law": laplace, "b_std": 1.0, "b_law": HALF},
        {"kind": "quadratic"},
        {"kind": "dense", "width": 1500, "W_law": laplace, "W_std": 0.7, "b_std": 1.0, "b_law": laplace},
        {"kind": "quadratic"},
        {"kind": "dense", "width": 10},
    ]
    spec, x = model(layers), torch.tensor([[1.0, 0.2], [-0.4, 0.5]], dtype=torch.float64)
    samples = torch.stack([empirical_ntk(spec.network((2,), seed=seed), x) for seed in range(24)])
    spread = samples.std(0) / math.sqrt(len(samples))
    assert bool(((samples.mean(0) - infinite_kernel(spec, x).ntk).abs() < 4 * spread).all())
    for layer in (layers[0], layers[2]):
        layer |= {"W_law": {"kind": "normal"}, "b_law": {"kind": "normal", "scale": 12**-0.5}}
    assert bool(((samples.mean(0) - infinite_kernel(model(layers), x).ntk).abs() > 4 * spread).any())


def scaling(layers: list[Any], **fields: Any) -> InfiniteKernel:
    return infinite_kernel(model(layers, **fields), inputs(3))


ONE = with_activation(SHALLOW, ACTIVATIONS[5])
TWO = with_activation(DEEP, ACTIVATIONS[5])


def test_numbers_of_the_standard_parameterization() -> None:
    """E Theta(1, 1) = 0.379167 N + 1.1111 and E Theta(1, -1) = 0.156944 N."""
    spec = model(
        [
            {"kind": "dense", "width": 100, "W_law": UNIFORM, "b_std": 1.0, "b_law": HALF},
            {"kind": "quadratic"},
            read_out(),
        ],
        parameterization={"kind": "standard"},
    )
    assert_close(
        infinite_kernel(spec, POINTS).ntk,
        [[0.3791666667, 0.1569444444], [0.1569444444, 0.3791666667]],
        rtol=1e-9,
    )
    finite = infinite_kernel(spec, POINTS, widths="as_given").ntk
    assert_close(finite, [[39.0277777778, 15.6944444444], [15.6944444444, 39.0277777778]], rtol=1e-9)


@pytest.mark.parametrize(
    ("layers", "fields", "path"),
    [
        (
            [
                ONE[0],
                {"kind": "relu"},
                ONE[0] | {"b_law": UNIFORM},
                {"kind": "serial", "layers": [{"kind": "erf"}]},
                ONE[2],
            ],
            {},
            "layers.3.layers.0",
        ),
        ([ONE[0] | {"W_law": {"kind": "student_t", "df": 4}}, {"kind": "quadratic"}, ONE[2]], {}, "layers.0"),
        ([ONE[0] | {"W_law": {"kind": "student_t", "df": 2}}, {"kind": "relu"}, ONE[2]], {}, "layers.0"),
        ([*ONE[:2], ONE[2] | {"b_placement": "inside_sum"}], {}, "layers.2"),
        ([*ONE[:2], ONE[2] | {"b_placement": "inside_sum", "b_law": {"kind": "zero"}}], {}, "layers.2"),
        (TWO, {"parameterization": {"kind": "mean_field"}}, "layers.2"),
        (
            [*ONE[:2], {"kind": "dense", "width": 1}, {"kind": "relu"}],
            {"parameterization": {"kind": "mean_field"}},
            "layers.3",
        ),
        (TWO, {"parameterization": {"kind": "abc", "input": {}, "hidden": {}, "readout": {}}}, "layers.2"),
    ],
)
def test_refusals_name_the_layer(layers: list[Any], fields: dict[str, Any], path: str) -> None:
    with pytest.raises(EngineError, match=path) as caught:
        infinite_kernel(model(layers, **fields), inputs(3))
    assert caught.value.pointer == "/" + path.replace(".", "/")
    assert caught.value.hint


def test_activation_before_the_first_weights() -> None:
    """It is a fixed map of the inputs."""
    plain = model(ONE)
    moved = model([{"kind": "quadratic"}, *ONE])
    assert_close(infinite_kernel(moved, inputs(3)).ntk, infinite_kernel(plain, inputs(3) ** 2).ntk)


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_an_activation_in_front_may_be_nested(cut: int) -> None:
    layers = [{"kind": "relu"}, *TWO]
    nested = model([{"kind": "serial", "layers": layers[:cut]}, *layers[cut:]])
    assert_close(
        infinite_kernel(nested, inputs(3)).ntk, infinite_kernel(model(layers), inputs(3)).ntk, rtol=0
    )


@pytest.mark.parametrize("activation", [{"kind": "relu"}, {"kind": "abs"}, {"kind": "sign"}], ids=named)
def test_collinear_inputs(activation: dict[str, Any]) -> None:
    """Coincident directions lose half the digits of an angle; the answer states it and stays usable."""
    dense = {"kind": "dense", "width": 1}
    x = torch.cat([inputs(20, 1), 3 * inputs(5, 1, seed=1)])
    kernel = infinite_kernel(model([dense, activation, dense]), x)
    assert 1e-16 < kernel.entry_error < 1e-7
    diagnose(kernel.ntk, entry_error=kernel.entry_error)


def test_smooth_activations_lose_no_digits() -> None:
    assert scaling(TWO).entry_error < 1e-14


def test_a_bias_that_vanishes_leaves_no_trace() -> None:
    """Inside the width scaling a bias of a deep layer is O(N^-1/2), whatever its law."""
    hidden = {"kind": "dense", "b_std": 1.0, "b_law": {"kind": "rademacher"}, "b_placement": "scaled"}
    with_bias = scaling([ONE[0], {"kind": "quadratic"}, hidden, {"kind": "quadratic"}, ONE[2]])
    without = scaling([ONE[0], {"kind": "quadratic"}, {"kind": "dense"}, {"kind": "quadratic"}, ONE[2]])
    assert_close(with_bias.nngp, without.nngp)
    assert_close(with_bias.ntk, without.ntk)


MOMENTS: dict[str, Any] = {
    "uniform": lambda k: Fraction(1, k + 1),
    "rademacher": lambda _: Fraction(1),
    "laplace": lambda k: Fraction(math.factorial(k), 2 ** (k // 2)),
}


@pytest.mark.parametrize("kind", MOMENTS)
@pytest.mark.parametrize("degree", range(1, 7))
def test_moments_keep_their_digits(kind: str, degree: int) -> None:
    """Against exact fractions: `E[(w / 2 + b)^2d]`, up to the degree that is allowed."""
    order = 2 * degree
    raw = [MOMENTS[kind](k) if k % 2 == 0 else Fraction(0) for k in range(order + 1)]
    terms = [math.comb(order, k) * raw[k] * raw[order - k] * Fraction(1, 2**k) for k in range(order + 1)]
    hidden = {"kind": "dense", "W_law": {"kind": kind}, "b_std": 1.0, "b_law": {"kind": kind}}
    spec = model([hidden, {"kind": "monomial", "degree": degree}, {"kind": "dense", "width": 1}])
    x = torch.tensor([[0.5]], dtype=torch.float64)
    assert_close(infinite_kernel(spec, x, x.clone()).nngp, [[float(sum(terms))]], rtol=1e-10)


def test_serial_changes_nothing() -> None:
    nested = model([{"kind": "serial", "layers": TWO[:3]}, *TWO[3:]])
    assert_close(infinite_kernel(nested, inputs(3)).ntk, infinite_kernel(model(TWO), inputs(3)).ntk, rtol=0)


@pytest.mark.parametrize("start", ["centred", "doubled"])
def test_a_start_at_zero(start: str) -> None:
    kernel, plain = scaling(TWO, initial_function=start, output_scale=2.0), scaling(TWO)
    assert_close(kernel.ntk, 4 * plain.ntk)
    assert not bool(kernel.nngp.any())
    assert any("starts at f = 0" in warning for warning in kernel.warnings)


def test_a_kernel_that_is_zero_says_so() -> None:
    zero = {"kind": "dense", "W_law": {"kind": "zero"}}
    kernel = scaling([zero, {"kind": "quadratic"}, {"kind": "dense", "width": 1, "W_law": {"kind": "zero"}}])
    assert any("zero on every pair" in warning for warning in kernel.warnings)


@pytest.mark.parametrize("activation", ACTIVATIONS + INFINITE_ONLY, ids=named)
def test_edge_inputs_are_finite(activation: dict[str, Any]) -> None:
    x = torch.tensor(
        [[0.0, 0.0], [1.0, 2.0], [1.0, 2.0], [-1.0, -2.0], [1e-8, 0.0], [30.0, 10.0]], dtype=torch.float64
    )
    layers = [
        layer | {"b_std": None} if layer["kind"] == "dense" else layer
        for layer in with_activation(DEEP, activation)
    ]
    kernel = infinite_kernel(model(layers), x)
    assert bool(torch.isfinite(kernel.ntk).all())
    assert_close(kernel.ntk[1, 2], kernel.ntk[1, 1])  # coincident inputs in different rows
    diagnose(kernel.ntk, entry_error=kernel.entry_error)  # raises unless positive semi-definite


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 8),
    d=st.integers(1, 5),
    act=st.sampled_from(ACTIVATIONS + INFINITE_ONLY),
    log_scale=st.floats(-3, 1),
)
def test_properties(seed: int, n: int, d: int, act: dict[str, Any], log_scale: float) -> None:
    """Symmetric, positive semi-definite, equivariant, and a rectangle is a corner of the square."""
    spec = model(with_activation(DEEP, act))
    x = inputs(n + 2, d, seed=seed) * 10**log_scale
    kernel = infinite_kernel(spec, x)
    for square in (kernel.ntk, kernel.nngp):
        assert torch.equal(square, square.T)
        diagnose(square, entry_error=kernel.entry_error)
    order = torch.randperm(n + 2, generator=torch.Generator().manual_seed(seed))
    assert_close(infinite_kernel(spec, x[order]).ntk, kernel.ntk[order][:, order], rtol=1e-11)
    assert_close(infinite_kernel(spec, x[:2], x[2:]).ntk, kernel.ntk[:2, 2:], rtol=1e-7)


def test_float32() -> None:
    exact, single = infinite_kernel(model(TWO), inputs(5)), infinite_kernel(model(TWO), inputs(5).float())
    assert single.ntk.dtype == torch.float32
    assert_close(single.ntk, exact.ntk.float())


def test_a_matrix_that_is_no_kernel() -> None:
    with pytest.raises(NumericalError, match="positive semi-definite"):
        diagnose(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64))


def test_rank_of_the_quadratic_network() -> None:
    """In one dimension the quadratic kernel has rank 3 for any number of points."""
    report = diagnose(
        infinite_kernel(quadratic(), torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]).ntk
    )
    assert report.symmetric
    assert report.lambda_min is not None
    assert abs(report.lambda_min) < 1e-14


def test_diagnostics_of_the_forms() -> None:
    """Theta I_k and its diagonal have the eigenvalues of theta."""
    theta = infinite_kernel(model(ONE), inputs(4)).ntk
    full = torch.einsum("ij,ab->ijab", theta, torch.eye(3, dtype=torch.float64))
    plain = diagnose(theta)
    for form in (full, theta[..., None].expand(4, 4, 3)):
        report = diagnose(form)
        assert report.symmetric
        assert report.lambda_min == pytest.approx(plain.lambda_min, rel=1e-10)
        assert report.condition_number == pytest.approx(plain.condition_number, rel=1e-10)
