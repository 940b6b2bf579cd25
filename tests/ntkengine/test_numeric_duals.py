"""Numeric duals: against closed forms treated as if they had none, and against nested quadrature."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import special
from torch import Tensor

from ntkengine import Cos, Dense, Elementwise, KernelSpec, Model, NumericalError, infinite_kernel
from ntkengine.activations import Activation, AnyActivation, NumericActivation, mehler
from ntkengine.activations.boxes import on_boxes
from ntkengine.activations.panels import Curve, splits
from ntkengine.activations.quadrature import Normal, Pairs, Quadrature
from ntkengine.joint import Joint
from ntkengine.layers import AnyLayer
from ntkengine.reference.duals import expectation, nodes
from ntkengine.spec import from_jsonable, to_jsonable
from ntkengine.state import Dual
from tests.cases import ACTIVATIONS, NUMERIC, inputs, named
from tests.compare import assert_close

Function = Callable[[np.ndarray], np.ndarray]

KINKED = {"relu", "leaky_relu", "abs", "ab_relu", "sign", "rectified_monomial"}
RELU = Elementwise(fn=torch.relu, kinks=(0.0,))


def layer_of(spec: dict[str, Any]) -> Activation:
    layer: Activation = from_jsonable(AnyLayer, spec)
    return layer


def pair(q11: float, angle: float, q22: float) -> tuple[float, float, float, float]:
    """Second moments and determinant of a pair at that angle."""
    return q11, q22, math.sqrt(q11 * q22) * math.cos(angle), q11 * q22 * math.sin(angle) ** 2


def grids(variances: list[float]) -> tuple[Joint, Joint]:
    """Pairs at all angles, from coincident over nearly coincident to antipodal ones; the near ones by their
    determinant, for a rounded cosine does not hold their angle."""
    close = [0.0, 1e-8, 1.4142e-4, 1e-2, 0.15]
    near, far = [*close, *(math.pi - each for each in close)], [0.3, 0.8, 1.3, math.pi / 2, 2.0, 2.9]
    rows = ([pair(a, t, b) for a in variances for b in variances for t in angles] for angles in (near, far))
    known, plain = (torch.tensor(each, dtype=torch.float64).T for each in rows)
    return Joint(known[0], known[2], known[1], det=known[3]), Joint(plain[0], plain[2], plain[1])


def assert_bounded(got: Dual, want: Dual) -> None:
    """The true error is within the bound, and the bound within 100 times the true error and 1e-13 of the
    scale: the largest entry, but at least 1."""
    for value, exact, bound in zip(got[:2], want[:2], got[2:], strict=True):
        error, scale = float((value - exact).abs().max()), max(1.0, float(exact.abs().max()))
        assert error <= bound
        assert bound <= 100 * error + 1e-13 * scale


@pytest.mark.parametrize("variances", [[0.01, 10.0], [1e-12, 1.0]], ids=["usual", "small"])
@pytest.mark.parametrize("spec", ACTIVATIONS, ids=named)
def test_bounds_on_closed_forms(spec: dict[str, Any], variances: list[float]) -> None:
    closed = layer_of(spec)
    kinks = (0.0,) if spec["kind"] in KINKED else ()
    for joint in grids(variances):
        assert_bounded(Elementwise(fn=closed.function, kinks=kinks).dual(joint), closed.dual(joint))


@pytest.mark.parametrize(
    "spec", [each for each in ACTIVATIONS if each["kind"] in {*KINKED, "monomial"}], ids=named
)
def test_bounds_at_large_variances(spec: dict[str, Any]) -> None:
    closed = layer_of(spec)
    for joint in grids([1e3, 1e6]):
        assert_bounded(Elementwise(fn=closed.function, kinks=(0.0,)).dual(joint), closed.dual(joint))


@pytest.mark.parametrize("kinks", [(0.0,), ()], ids=["stated", "found"])
def test_relu_treated_numerically(kinks: tuple[float, ...]) -> None:
    joint = kernel_of(inputs(40, 3), inputs(30, 3, seed=1))
    numeric_relu = Elementwise(fn=torch.relu, kinks=kinks).dual(joint)
    exact = layer_of({"kind": "relu"}).dual(joint)
    assert_close(numeric_relu.value, exact.value)
    assert_close(numeric_relu.slope, exact.slope.expand_as(numeric_relu.slope))


def kernel_of(x1: Tensor, x2: Tensor) -> Joint:
    first, second = ((x * x).sum(1) for x in (x1, x2))
    return Joint(first[:, None], x1 @ x2.T, second)


def logistic(z: np.ndarray) -> np.ndarray:
    result: np.ndarray = special.expit(z)
    return result


def softplus(z: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.logaddexp(0.0, z)
    return result


def exponential(z: np.ndarray, left: float) -> tuple[np.ndarray, np.ndarray]:
    tail = np.exp(np.minimum(z, 0.0))
    return np.where(z > 0, z, left * (tail - 1.0)), np.where(z > 0, 1.0, left * tail)


SECOND: dict[str, tuple[Function, Function]] = {  # the functions, written down a second time
    "tanh": (np.tanh, lambda z: np.cosh(z) ** -2.0),
    "sigmoid": (logistic, lambda z: logistic(z) - logistic(z) ** 2),
    "softplus": (softplus, logistic),
    "silu": (lambda z: z * logistic(z), lambda z: logistic(z) + z * logistic(z) * logistic(-z)),
    "mish": (
        lambda z: z * np.tanh(softplus(z)),
        lambda z: np.tanh(softplus(z)) + z * logistic(z) * (1.0 - np.tanh(softplus(z)) ** 2),
    ),
    "elu": (lambda z: exponential(z, 0.7)[0], lambda z: exponential(z, 0.7)[1]),
    "selu": (
        lambda z: 1.0507009873554805 * exponential(z, 1.6732632423543772)[0],
        lambda z: 1.0507009873554805 * exponential(z, 1.6732632423543772)[1],
    ),
}


@pytest.mark.parametrize("spec", NUMERIC, ids=named)
def test_functions(spec: dict[str, Any]) -> None:
    layer, z = layer_of(spec), torch.tensor([-31.0, -2.0, -0.3, 1e-9, 0.5, 1.7, 30.0], dtype=torch.float64)
    assert isinstance(layer, NumericActivation)
    z.requires_grad_()
    (slope,) = torch.autograd.grad(layer.function(z).sum(), z)
    function, derivative = SECOND[spec["kind"]]
    assert_close(layer.function(z), function(z.numpy(force=True)))
    assert_close(slope, derivative(z.numpy(force=True)))
    assert_close(layer.derivative(z), derivative(z.numpy(force=True)))


@pytest.mark.parametrize("spec", NUMERIC, ids=named)
def test_duals_by_nested_quadrature(spec: dict[str, Any]) -> None:
    for q11, q12, q22 in (
        (1.0, 0.3, 0.8),
        (0.5, -0.45, 0.6),
        (4.0, 3.9, 4.1),
        (25.0, 0.2, 0.01),
        (9.0, -5, 7),
    ):
        joint = Joint(*torch.tensor([q11, q12, q22], dtype=torch.float64))
        dual = layer_of(spec).dual(joint)
        for got, error, g in zip(dual[:2], dual[2:], SECOND[spec["kind"]], strict=True):
            assert got.shape == ()
            assert abs(float(got) - expectation(g, q11, q12, q22)) <= error + 1e-13


@pytest.mark.parametrize("sign", [1, -1], ids=["coincident", "antipodal"])
@pytest.mark.parametrize("spec", NUMERIC, ids=named)
def test_degenerate_pairs(spec: dict[str, Any], sign: int) -> None:
    """z' = 1.5 z or -1.5 z."""
    q = torch.tensor([0.75, sign * 1.125, 1.6875], dtype=torch.float64)
    dual = layer_of(spec).dual(Joint(q[0], q[1], q[2]))
    (u,), (weights,) = nodes(np.array([0.0]))
    z = math.sqrt(0.75) * u
    for got, error, g in zip(dual[:2], dual[2:], SECOND[spec["kind"]], strict=True):
        assert abs(float(got) - (g(z) * g(sign * 1.5 * z) * weights).sum()) <= error


def beyond(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0.4, z - 0.4, 0.0)


@pytest.mark.parametrize("kinks", [(0.4,), ()], ids=["stated", "found"])
@pytest.mark.parametrize("q", [(1.0, 0.3, 0.8), (2.5, 2.3, 2.4), (9.0, -0.03, 0.11)])
def test_kinks_off_zero(q: tuple[float, float, float], kinks: tuple[float, ...]) -> None:
    dual = Elementwise(fn=lambda z: torch.relu(z - 0.4), kinks=kinks).dual(
        Joint(*torch.tensor(q, dtype=torch.float64))
    )
    assert_close(dual.value, expectation(beyond, *q, kink=0.4))
    assert_close(dual.slope, expectation(lambda z: np.where(z > 0.4, 1.0, 0.0), *q, kink=0.4))


@pytest.mark.parametrize("kinks", [(0.4,), ()], ids=["stated", "found"])
@pytest.mark.parametrize("angle", [1e-5, 0.003, 0.1, 1.0])
def test_kinks_of_near_pairs(angle: float, kinks: tuple[float, ...]) -> None:
    """For variance 1, `P(z > k, z' > k) = P(z > k) - int_0^t exp(-k^2 / (1 + cos s)) ds / (2 pi)`
    (Plackett's identity in the angle)."""
    q = torch.tensor(pair(1.0, angle, 1.0), dtype=torch.float64)
    dual = Elementwise(fn=lambda z: torch.relu(z - 0.4), kinks=kinks).dual(Joint(q[0], q[2], q[1], det=q[3]))
    x, w = np.polynomial.legendre.leggauss(40)
    passed = 0.5 * angle * (x + 1.0)
    lost = (np.exp(-0.16 / (1.0 + np.cos(passed))) * w).sum() * angle / (4.0 * math.pi)
    assert abs(float(dual.slope) - (special.ndtr(-0.4) - lost)) <= dual.slope_error


def test_slope_is_the_derivative_of_the_value() -> None:
    """Price's theorem, by differences of order 4."""
    steps = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64) * 1e-3
    one = torch.ones_like(steps)
    for spec in NUMERIC:
        dual = layer_of(spec).dual(Joint(0.7 * one, -0.4 + steps, 0.9 * one))
        difference = (dual.value * torch.tensor([1.0, -8.0, 0.0, 8.0, -1.0])).sum() / 12e-3
        assert_close(difference, dual.slope[2], rtol=1e-9)


@pytest.mark.parametrize("width", [1e-9, 0.05, 0.3])
def test_many_near_pairs_are_interpolated(width: float) -> None:
    """Interpolation takes the place of most quadratures, and is right to its bound."""
    generator = torch.Generator().manual_seed(0)
    a, b, t = torch.rand(3, 20000, generator=generator, dtype=torch.float64)
    pairs = Pairs(2.0 + width * a, 1.0 + width * b, 0.1 + width * t)
    curve, asked = Curve(torch.relu, lambda z: (z > 0).double(), (0.0,)), []
    rule = Quadrature(curve, splits(curve, 20.0), Normal(9.0, 4.5))

    def counted(some: Pairs) -> Tensor:
        asked.append(len(some.angle))
        return rule(some)

    values, added = on_boxes(counted, pairs)
    assert sum(asked) < 5000
    lengths = (pairs.larger * pairs.smaller).sqrt()
    rest = math.pi - pairs.angle
    value = lengths * (pairs.angle.sin() + rest * pairs.angle.cos()) / (2.0 * math.pi)
    for got, exact, error in zip(values, (value, rest / (2.0 * math.pi)), added, strict=True):
        assert float((got - exact).abs().max()) <= float(error) + 1e-14
        assert float(error) <= 1e-13


def test_what_a_short_series_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parseval's bound holds for every pair, and is no more than the Cauchy-Schwarz inequality loses."""
    monkeypatch.setattr(mehler, "TERMS", 32)
    curve, q = Curve(torch.relu, lambda z: (z > 0).double(), (0.0,)), torch.tensor([0.5, 2.0]).double()
    cosine = torch.linspace(-1.0, 1.0, 41, dtype=torch.float64)[:, None]
    series = mehler.series(curve, splits(curve, 20.0), 9.0, q)
    here, there = (torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.long))
    exact = layer_of({"kind": "relu"}).dual(Joint(q[:1], cosine, q[1:]))
    for each, want in zip(series, exact[:2], strict=True):
        total, left, _ = mehler.summed(each.shaped(here), each.shaped(there), cosine.clone())
        error = (total - want).abs()
        assert bool((error <= left * (1.0 + 1e-9) + 1e-15).all())
        coincident = error[-1] / left[-1]
        assert float(coincident) == pytest.approx(1.0, rel=1e-6)


def test_shapes_and_precision() -> None:
    x = inputs(12, 3).reshape(2, 2, 3, 3)
    first = x[0].square().sum(-1)
    second = x[1].square().sum(-1)
    q12 = torch.einsum("apd,bqd->abpq", x[0], x[1])
    joint = Joint(first[:, None, :, None], q12, second[None, :, None, :])
    whole = RELU.dual(joint)
    assert whole.value.shape == whole.slope.shape == q12.shape
    exact = layer_of({"kind": "relu"}).dual(joint)
    assert_close(whole.value, exact.value)
    single = RELU.dual(Joint(joint.q11.float(), q12.float(), joint.q22.float()))
    assert single.value.dtype == single.slope.dtype == torch.float32
    assert_close(single.value, exact.value.float())
    assert single.value_error == pytest.approx(whole.value_error, rel=0.5)


@pytest.mark.parametrize("spec", [*NUMERIC, {"kind": "relu"}, {"kind": "sign"}], ids=named)
def test_inputs_without_variance(spec: dict[str, Any]) -> None:
    """z is 0 for certain; a derivative at a kink is the mean of those on either side."""
    layer = layer_of(spec)
    fn = Elementwise(fn=layer.function, kinks=(0.0,))
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    dual = fn.dual(Joint(zero, zero, torch.cat([zero, one])))
    (u,), (weights,) = nodes(np.array([0.0]))
    z = torch.tensor([-1e-9, 0.0, 1e-9], dtype=torch.float64)
    at = layer.function(z)[1]
    mean = float((layer.function(torch.tensor(u)) * torch.tensor(weights)).sum())
    assert_close(1.0 + dual.value, [1.0 + float(at**2), 1.0 + float(at) * mean])
    centre = float(fn.derivative(z)[[0, 2]].mean())
    assert_close(
        1.0 + dual.slope[0],
        1.0 + centre**2,
        rtol=1e-8,
    )


@pytest.mark.parametrize(
    "q", [(3e45, 2e45, 4e45), (1e45, -1e45, 1e45), (1e-200, 1e-200, 1e-200), (1e-200, 0, 1e45)]
)
@pytest.mark.parametrize("spec", NUMERIC, ids=named)
def test_huge_and_tiny_variances(spec: dict[str, Any], q: tuple[float, float, float]) -> None:
    dual = layer_of(spec).dual(Joint(*torch.tensor(q, dtype=torch.float64)))
    assert all(bool(torch.isfinite(each)) for each in dual[:2])
    assert math.isfinite(dual.value_error)


@pytest.mark.parametrize(
    ("fn", "variance", "message"),
    [
        (torch.exp, 400.0, "grows too fast"),
        (torch.exp, 1e8, "not finite"),
        (lambda z: torch.exp(0.3 * z * z), 1.0, "grows too fast"),
        (torch.sin, 1e8, "varies too often"),
        (torch.log, 1.0, "not finite"),
    ],
)
def test_what_has_no_numeric_dual(fn: Callable[[Tensor], Tensor], variance: float, message: str) -> None:
    q = torch.full((1,), variance, dtype=torch.float64)
    with pytest.raises(NumericalError, match=message) as caught:
        Elementwise(fn=fn).dual(Joint(q, 0.5 * q, q))
    assert caught.value.hint


@settings(deadline=None, max_examples=15)
@given(spec=st.sampled_from(NUMERIC), seed=st.integers(0, 1000), n=st.integers(1, 6))
def test_kernels_are_symmetric_and_positive(spec: dict[str, Any], seed: int, n: int) -> None:
    x = inputs(n, 2, seed=seed)
    x = torch.cat([x, x[:1], -x[:1], 1e-9 + x[:1]])
    dual = layer_of(spec).dual(kernel_of(x, x))
    for kernel, error in zip(dual[:2], dual[2:], strict=True):
        assert float((kernel - kernel.T).abs().max()) <= 2.0 * error
        symmetric = 0.5 * (kernel + kernel.T)
        # angles of the Gram matrix are known to a root of rounding, and a kink's slope is linear in them
        noise = len(x) * (error + (1e-7 if spec["kind"] == "selu" else 1e-14) * float(kernel.abs().max()))
        assert float(torch.linalg.eigvalsh(symmetric).min()) >= -noise


@pytest.mark.parametrize("spec", NUMERIC, ids=named)
def test_functions_can_be_transformed(spec: dict[str, Any]) -> None:
    layer, z = layer_of(spec), inputs(3)
    hessians = torch.func.vmap(torch.func.jacrev(torch.func.jacrev(layer.function)))(z)
    z.requires_grad_()
    (first,) = torch.autograd.grad(layer.function(z).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    places = torch.arange(4)
    assert_close(hessians[:, places, places, places], second)


def cosine_network(**fields: Any) -> Model:
    return Model(layers=(Dense(width=3), Elementwise(fn=torch.cos, **fields), Dense(width=1)))


@pytest.mark.parametrize(
    "fields", [{}, {"fn_derivative": lambda z: -torch.sin(z)}], ids=["autograd", "given"]
)
def test_a_function_of_ones_own(fields: dict[str, Any]) -> None:
    x = inputs(5)
    closed = Model(layers=(Dense(width=3), Cos(), Dense(width=1)))
    numeric, exact = (infinite_kernel(each, x) for each in (cosine_network(**fields), closed))
    assert_close(numeric.nngp, exact.nngp)
    assert_close(numeric.ntk, exact.ntk)
    assert_close(cosine_network(**fields).network((4,))(x), closed.network((4,))(x))


@pytest.mark.parametrize("fn", ["torch.cos", None, torch.cos])
def test_json_cannot_name_a_function(fn: Any) -> None:
    with pytest.raises(ValidationError, match="from Python only") as caught:
        from_jsonable(Model, {"layers": [{"kind": "elementwise", "fn": fn}]})
    assert caught.value.errors()[0]["loc"] == ("layers", 0, "elementwise")


@pytest.mark.parametrize("layer", NUMERIC, ids=named)
def test_variances_that_share_nodes(layer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The series on nodes for many variances are those on nodes for each, from narrow laws to wide ones."""
    activation: Any = from_jsonable(AnyActivation, layer)
    curve = Curve(activation.function, activation.derivative, activation.kinked_at())
    q = torch.cat([torch.zeros(1), torch.logspace(-6, 2, 25)]).double()
    parts = splits(curve, 9.0 * 10.0)
    assert not parts.kinks.any()
    shared = mehler.series(curve, parts, 9.0, q)
    monkeypatch.setattr(mehler, "MOST_HALVINGS", -1)
    for one, other in zip(shared, mehler.series(curve, parts, 9.0, q), strict=True):
        both = (one.coefficients != 0) & (other.coefficients != 0)  # groups end at terms of their own
        assert (both * (one.coefficients - other.coefficients).abs() <= 1e-14 * other.power.sqrt()).all()
        assert both[:32].float().mean() > 0.5
        assert_close(one.power, other.power, rtol=1e-14)


def test_kinks_elsewhere_are_not_shared() -> None:
    """A function with a kink at 1 has nodes for each variance, and exact coefficients: those of order 0."""
    curve = Curve(lambda z: (z - 1.0).abs(), lambda z: torch.sign(z - 1.0), (1.0,))
    parts = splits(curve, 18.0)
    assert parts.kinks.tolist() == [1.0]
    q = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64)
    value, _ = mehler.series(curve, parts, 9.0, q)
    root = q.sqrt()
    density = torch.exp(-0.5 / q) / math.sqrt(2.0 * math.pi)
    folded = 2.0 * root * density + torch.erf(1.0 / root / math.sqrt(2.0))  # E|z - 1|
    assert_close(value.coefficients[0, :], folded, rtol=1e-14)


def test_a_function_has_no_json() -> None:
    with pytest.raises(ValueError, match="from Python only"):
        to_jsonable(cosine_network())
    for mode in ("validation", "serialization"):
        schema = json.dumps(TypeAdapter(KernelSpec).json_schema(mode=mode))
        assert '"elementwise"' not in schema
        assert '"Elementwise"' not in schema
        assert '"softplus"' in schema
