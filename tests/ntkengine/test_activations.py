"""Each activation's dual against its function, written down a second time here."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special

from ntkengine import Model, UnsupportedError, infinite_kernel
from ntkengine.activations import Activation
from ntkengine.activations.moments import JointMoments, polynomial_dual
from ntkengine.joint import Joint
from ntkengine.layers import AnyLayer
from ntkengine.reference.duals import expectation, nodes
from ntkengine.spec import from_jsonable
from ntkengine.state import Dual
from tests.cases import ACTIVATIONS, FINITE_ONLY, INFINITE_ONLY, inputs, model, named, with_activation
from tests.compare import assert_close

Function = Callable[[np.ndarray], np.ndarray]
Row = tuple[dict[str, Any], Function, Function]

RATE = 1 / 2.4020563531719796


def bell(z: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.exp(-z * z)
    return result


def step(z: np.ndarray) -> np.ndarray:
    return (z > 0) * 1.0


def hermite(n: int) -> Row:
    """By scipy's polynomials; the derivative of `He_n` is `n He_(n-1)`."""
    norm = math.sqrt(math.factorial(n))
    return (
        {"kind": "hermite", "degree": n},
        lambda z: special.eval_hermitenorm(n, z) / norm,
        lambda z: n * special.eval_hermitenorm(n - 1, z) / norm,
    )


def rectified(n: int) -> Row:
    return (
        {"kind": "rectified_monomial", "degree": n},
        lambda z: np.where(z >= 0, z**n, 0.0),
        lambda z: n * step(z) * z ** max(n - 1, 0),
    )


SMOOTH: list[Row] = [
    ({"kind": "linear"}, lambda z: z, np.ones_like),
    ({"kind": "quadratic"}, lambda z: z * z, lambda z: 2 * z),
    ({"kind": "monomial", "degree": 3}, lambda z: z**3, lambda z: 3 * z**2),
    ({"kind": "monomial", "degree": 0}, np.ones_like, np.zeros_like),
    (
        {"kind": "polynomial", "coef": [0.2, 0.5, -0.3, 0.1]},
        lambda z: 0.2 + 0.5 * z - 0.3 * z**2 + 0.1 * z**3,
        lambda z: 0.5 - 0.6 * z + 0.3 * z**2,
    ),
    ({"kind": "polynomial", "coef": [1.5]}, lambda z: 1.5 + 0 * z, np.zeros_like),
    *map(hermite, range(1, 7)),
    ({"kind": "erf"}, special.erf, lambda z: 2 / np.sqrt(np.pi) * bell(z)),
    (
        {"kind": "sigmoid_like"},
        lambda z: 0.5 + 0.5 * special.erf(RATE * z),
        lambda z: RATE / np.sqrt(np.pi) * bell(RATE * z),
    ),
    (
        {"kind": "gelu"},
        lambda z: z * special.ndtr(z),
        lambda z: special.ndtr(z) + z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi),
    ),
    (
        {"kind": "sin", "a": 1.2, "b": 0.8, "c": 0.3},
        lambda z: 1.2 * np.sin(0.8 * z + 0.3),
        lambda z: 0.96 * np.cos(0.8 * z + 0.3),
    ),
    (
        {"kind": "cos", "a": 1.1, "b": 0.7, "c": 0.4},
        lambda z: 1.1 * np.cos(0.7 * z + 0.4),
        lambda z: -0.77 * np.sin(0.7 * z + 0.4),
    ),
    ({"kind": "cos"}, np.cos, lambda z: -np.sin(z)),
    (
        {"kind": "rbf", "gamma": 0.6},
        lambda z: np.sqrt(2) * np.sin(np.sqrt(1.2) * z + np.pi / 4),
        lambda z: np.sqrt(2.4) * np.cos(np.sqrt(1.2) * z + np.pi / 4),
    ),
    (
        {"kind": "exp", "a": 0.8, "b": 0.07},
        lambda z: 0.8 * np.exp(0.07 * z),
        lambda z: 0.056 * np.exp(0.07 * z),
    ),
    (
        {"kind": "exp", "a": 0.8, "b": -1.3},
        lambda z: 0.8 * np.exp(-1.3 * z),
        lambda z: -1.04 * np.exp(-1.3 * z),
    ),
    (
        {"kind": "gaussian", "a": 1.1, "b": -0.7},
        lambda z: 1.1 * np.exp(-0.7 * z * z),
        lambda z: -1.54 * z * np.exp(-0.7 * z * z),
    ),
    ({"kind": "gabor"}, lambda z: bell(z) * np.sin(z), lambda z: bell(z) * (np.cos(z) - 2 * z * np.sin(z))),
]
KINKED: list[Row] = [
    ({"kind": "relu"}, lambda z: np.maximum(z, 0), step),
    (
        {"kind": "leaky_relu", "alpha": 0.2},
        lambda z: np.where(z > 0, z, 0.2 * z),
        lambda z: 0.2 + 0.8 * step(z),
    ),
    ({"kind": "abs"}, np.abs, np.sign),
    (
        {"kind": "ab_relu", "a": -0.3, "b": 1.4},
        lambda z: np.where(z > 0, 1.4 * z, -0.3 * z),
        lambda z: -0.3 + 1.7 * step(z),
    ),
    ({"kind": "sign"}, np.sign, np.zeros_like),
    *map(rectified, range(5)),
]
TABLE = [pytest.param(*row, id=named(row[0])) for row in SMOOTH + KINKED]
EVERY = [row[0] for row in SMOOTH + KINKED] + INFINITE_ONLY


def layer_of(spec: dict[str, Any]) -> Activation:
    layer: Activation = from_jsonable(AnyLayer, spec)
    return layer


def joint_of(q11: float, q12: float, q22: float) -> Joint:
    q = torch.tensor([q11, q12, q22], dtype=torch.float64)
    return Joint(q[0], q[1], q[2])


def dual_of(spec: dict[str, Any], joint: Joint) -> Dual:
    return layer_of(spec).dual(joint)


def test_every_activation_is_in_the_table() -> None:
    assert all(activation in EVERY for activation in ACTIVATIONS)


@pytest.mark.parametrize(("spec", "function", "derivative"), TABLE)
def test_functions(spec: dict[str, Any], function: Function, derivative: Function) -> None:
    z = torch.tensor([-31.0, -2.0, -0.3, 1e-9, 0.5, 1.7, 30.0], dtype=torch.float64, requires_grad=True)
    value = layer_of(spec).function(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    assert_close(value, function(z.numpy(force=True)))
    assert_close(slope, derivative(z.numpy(force=True)))


@pytest.mark.parametrize("q", [(1.0, 0.3, 0.8), (0.5, -0.45, 0.6), (2.5, 2.4, 2.4), (1e-6, 5e-7, 2e-6)])
@pytest.mark.parametrize(("spec", "function", "derivative"), TABLE)
def test_duals_by_quadrature(
    spec: dict[str, Any], function: Function, derivative: Function, q: tuple[float, float, float]
) -> None:
    dual = dual_of(spec, joint_of(*q))
    assert_close(dual.value, expectation(function, *q))
    assert_close(dual.slope, expectation(derivative, *q))


@pytest.mark.parametrize("sign", [1, -1], ids=["coincident", "antipodal"])
@pytest.mark.parametrize(("spec", "function", "derivative"), TABLE)
def test_degenerate_pairs_by_quadrature(
    spec: dict[str, Any], function: Function, derivative: Function, sign: int
) -> None:
    """z' = 1.5 z or -1.5 z; 1.5^2 and the products of these variances are exact."""
    dual = dual_of(spec, joint_of(0.75, sign * 1.125, 1.6875))
    (u,), (weights,) = nodes(np.array([0.0]))
    z = math.sqrt(0.75) * u
    for got, g in ((dual.value, function), (dual.slope, derivative)):
        assert_close(got, (g(z) * g(sign * 1.5 * z) * weights).sum())


@pytest.mark.parametrize(("spec", "function", "derivative"), TABLE)
def test_duals_without_variance(spec: dict[str, Any], function: Function, derivative: Function) -> None:
    """z is 0 for certain; what the derivative is at a kink is a convention, so that it is only finite."""
    (u,), (weights,) = nodes(np.array([0.0]))
    duals = [dual_of(spec, joint_of(0.0, 0.0, last)) for last in (1.0, 0.0)]
    for got, g in (([dual.value for dual in duals], function), ([dual.slope for dual in duals], derivative)):
        centre, mean = g(np.zeros(1))[0], (g(u) * weights).sum()
        values = torch.stack(got)
        assert bool(torch.isfinite(values).all())
        if g is function or any(spec is row[0] for row in SMOOTH):
            assert_close(
                1.0 + values, [1.0 + centre * mean, 1.0 + centre**2]
            )  # means vanish to rounding only


@pytest.mark.parametrize(
    "q", [(3e45, 2e45, 4e45), (3e45, 3e45, 3e45), (1e45, -1e45, 1e45), (1e-200, 1e-200, 1e-200)]
)
@pytest.mark.parametrize("spec", [each for each in EVERY if each["kind"] != "exp"], ids=named)
def test_huge_and_tiny_variances(spec: dict[str, Any], q: tuple[float, float, float]) -> None:
    dual = dual_of(spec, joint_of(*q))
    assert all(bool(torch.isfinite(each)) for each in dual[:2])


@pytest.mark.parametrize("spec", EVERY, ids=named)
def test_slope_is_the_derivative_of_the_value(spec: dict[str, Any]) -> None:
    """Price's theorem: `d E[s s'] / d q12 = E[s's']`, but for steps."""
    q11, q12, q22 = (torch.tensor([each], dtype=torch.float64) for each in (0.7, -0.4, 0.9))
    q12.requires_grad_()
    dual = dual_of(spec, Joint(q11, q12, q22))
    (slope,) = torch.autograd.grad(dual.value, q12) if dual.value.requires_grad else (torch.zeros_like(q12),)
    if spec["kind"] == "sign" or spec == {"kind": "rectified_monomial", "degree": 0}:
        assert not bool(dual.slope.any())
        assert bool((slope > 0).all())
    else:
        assert_close(dual.slope, slope)


@pytest.mark.parametrize("spec", ACTIVATIONS + FINITE_ONLY, ids=named)
def test_functions_can_be_transformed(spec: dict[str, Any]) -> None:
    """Second derivatives by nested transformations are those of double backward."""
    layer, z = layer_of(spec), inputs(3)
    hessians = torch.func.vmap(torch.func.jacrev(torch.func.jacrev(layer.function)))(z)
    z.requires_grad_()
    (first,) = torch.autograd.grad(layer.function(z).sum(), z, create_graph=True)
    second = torch.zeros_like(z)
    if first.requires_grad:
        (second,) = torch.autograd.grad(first.sum(), z, allow_unused=True, materialize_grads=True)
    places = torch.arange(4)
    assert_close(hessians[:, places, places, places], second)


def test_gaussian_polynomials_are_those_of_general_laws() -> None:
    coefficients, joint = (0.3, -0.2, 0.0, 0.5, 0.1, -0.4), joint_of(0.7, -0.4, 0.9)
    general = Joint(joint.q11, joint.q12, joint.q22, higher=lambda _i, _j: 0.0)
    assert_close(polynomial_dual(coefficients, joint).value, JointMoments(general).bilinear(coefficients))
    assert_close(polynomial_dual(coefficients, joint).slope, polynomial_dual(coefficients, general).slope)


@pytest.mark.parametrize("degree", [1, 8, 20])
def test_hermite_polynomials_are_orthonormal(degree: int) -> None:
    """For variance 1 the dual is `q12^n`."""
    cosine = torch.linspace(-1, 1, 9, dtype=torch.float64)
    one = torch.ones_like(cosine)
    dual = dual_of({"kind": "hermite", "degree": degree}, Joint(one, cosine, one))
    assert_close(dual.value, cosine**degree, rtol=1e-11)
    assert_close(dual.slope, degree * cosine ** (degree - 1), rtol=1e-11)


def test_exp_normalized() -> None:
    dual = dual_of(INFINITE_ONLY[0], joint_of(0.64, 0.4, 1.0))
    growth = math.exp(0.8 * (0.5 - 0.9))
    assert_close(dual.value, 0.8 * growth)
    assert_close(dual.slope, 0.8 * growth)


def test_a_kernel_without_a_function_is_refused() -> None:
    layers = with_activation(
        [{"kind": "dense", "width": 3}, None, {"kind": "dense", "width": 1}], INFINITE_ONLY[0]
    )
    spec: Model = model(layers)
    assert bool(infinite_kernel(spec, inputs(3)).ntk.any())
    with pytest.raises(UnsupportedError, match=r"layers\.1") as caught:
        spec.network((4,))(inputs(3))
    assert caught.value.pointer == "/layers/1"
