"""First layers of any law, against nested quadrature, exact numbers, closed forms and plain sampling."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, special, stats
from torch import Tensor

from ntkengine import (
    Laplace,
    Model,
    Normal,
    Rademacher,
    StudentT,
    Uniform,
    UnsupportedError,
    Zero,
    empirical_ntk,
)
from ntkengine.first_layer import (
    FirstLayerMoments,
    Growth,
    PiecewisePolynomial,
    Preactivation,
    Precision,
    Profile,
    first_layer_moments,
    slope_of,
)
from ntkengine.laws import Law
from ntkengine.reference.duals import expectation
from ntkengine.spec import from_jsonable
from tests.compare import assert_close, relative_difference

Array = NDArray[np.float64]


def unit(
    function: Callable[[Tensor], Tensor],
    order: int,
    pieces: PiecewisePolynomial | None = None,
    rate: float = 0.0,
) -> Profile:
    return Profile(function, slope_of(function), Growth(order, rate), pieces)


def pieces(*coefficients: tuple[float, ...], kinks: tuple[float, ...] = (0.0,)) -> PiecewisePolynomial:
    return PiecewisePolynomial(kinks, coefficients)


RELU = unit(torch.relu, 1, pieces((0.0,), (0.0, 1.0)))
STEP = unit(lambda z: (z >= 0) * 1.0, 0, pieces((0.0,), (1.0,)))
CUBE = unit(lambda z: torch.relu(z) ** 3, 3, pieces((0.0,), (0.0, 0.0, 0.0, 1.0)))
HARD = unit(lambda z: z.clamp(-0.4, 0.3), 0, pieces((-0.4,), (0.0, 1.0), (0.3,), kinks=(-0.4, 0.3)))
QUADRATIC = unit(torch.square, 2, pieces((0.0, 0.0, 1.0), kinks=()))
ERF = unit(torch.erf, 0)

UNIFORM = Uniform(half_width=1.0)
HALF = Uniform(half_width=0.5)
NOTES = Preactivation(UNIFORM, 1.0, HALF, 1.0)
POINTS = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)

DENSITIES: list[tuple[Law, Any]] = [
    (Normal(scale=1.3), stats.norm(scale=1.3)),
    (Uniform(half_width=0.7), stats.uniform(-0.7, 1.4)),
    (Laplace(scale=0.9), stats.laplace(scale=0.9 / math.sqrt(2))),
    (StudentT(df=6.5, scale=0.8), stats.t(6.5, scale=0.8)),
    (StudentT(df=40.0), stats.t(40.0)),
]
LAWS = [law for law, _ in DENSITIES] + [Rademacher(scale=0.6), Zero()]


def normals(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))


def drawn(preactivation: Preactivation, x: Tensor, count: int, seed: int) -> Array:
    """z at each input for plain draws, (n, count)."""
    generator = np.random.default_rng(seed)
    d = x.shape[1]
    w = preactivation.W_law.sample(generator, d * count).reshape(d, count)
    z = preactivation.W_factor * (x.numpy() @ w)
    if preactivation.b_law is not None:
        z = z + preactivation.b_factor * preactivation.b_law.sample(generator, count)
    return z


def sample_means(profile: Profile, z: Array) -> list[tuple[Array, Array]]:
    """Means and standard errors of the products of s, and of s'."""
    result = []
    for function in (profile.function, profile.derivative):
        s = function(torch.from_numpy(z)).numpy()
        mean = s @ s.T / s.shape[1]
        square = (s**2) @ (s**2).T / s.shape[1]
        result.append((mean, np.sqrt(np.maximum(square - mean**2, 0.0) / s.shape[1])))
    return result


# --- laws


@pytest.mark.parametrize(("law", "reference"), DENSITIES, ids=lambda each: getattr(each, "kind", ""))
def test_quantiles_and_densities(law: Any, reference: Any) -> None:
    u = np.array([1e-15, 1e-6, 0.02, 0.4999, 0.5, 0.7, 0.999, 1 - 1e-12])
    np.testing.assert_allclose(law.quantile(u), reference.ppf(u), rtol=1e-9, atol=1e-11)
    w = np.linspace(-0.69, 0.69, 7)
    np.testing.assert_allclose(law.density(w), reference.pdf(w), rtol=1e-13)


@pytest.mark.parametrize(("law", "reference"), DENSITIES, ids=lambda each: getattr(each, "kind", ""))
@pytest.mark.parametrize("at", [-1.7, -0.3, 0.0, 0.6, 3.1])
def test_partial_moments_by_quadrature(law: Law, reference: Any, at: float) -> None:
    got = law.partial_moments(np.array(at), 4)
    low, high = (max(min(each, 0.7), -0.7) if isinstance(law, Uniform) else each for each in (-np.inf, at))
    for order in range(5):
        middle = (min(-2.0, high), high) if not isinstance(law, Uniform) else (low, high)
        parts = [(low, middle[0]), middle] if low < middle[0] else [middle]
        if high > 0 > low:
            parts = [*parts[:-1], (parts[-1][0], 0.0), (0.0, high)]
        want = sum(
            integrate.quad(lambda w, j=order: w**j * reference.pdf(w), *part, epsabs=1e-13, epsrel=1e-12)[0]
            for part in parts
        )
        assert got[order] == pytest.approx(want, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_partial_moments_and_nodes_end_at_the_moments(law: Law) -> None:
    points, weights = law.nodes(np.array([0.123, -1e300]), law.panel_order(4), 4)
    everything, nothing = law.partial_moments(np.array([1e300, -1e300]), 4).T
    for order in range(5):
        scale = law.even_moment(order + order % 2) + 1e-300
        assert abs((weights * points**order).sum() - law.moment(order)) <= 1e-13 * scale
        assert abs(everything[order] - law.moment(order)) <= 1e-13 * scale
        assert abs(nothing[order]) <= 1e-13 * scale


# --- exact


def notes_kernel(found: FirstLayerMoments) -> Tensor:
    """The NTK of the notes: `E[v^2] = 1/3`."""
    return found.pair.value + found.pair.slope / 3.0 * (POINTS @ POINTS.T + 1.0)


EXACT_NOTES = torch.tensor([[1073.0, 113.0], [113.0, 1073.0]], dtype=torch.float64) / 720.0


def test_numbers_of_the_notes_by_splitting() -> None:
    found = first_layer_moments(QUADRATIC, NOTES, POINTS)
    assert found.method == "exact"
    assert found.pair.value_error is None
    assert_close(notes_kernel(found), EXACT_NOTES)


def test_numbers_of_the_notes_by_sampling() -> None:
    found = first_layer_moments(unit(torch.square, 2), NOTES, POINTS)
    assert found.method == "quadrature"
    assert found.pair.value_error is not None
    assert found.pair.slope_error is not None
    error = found.pair.value_error + found.pair.slope_error * (POINTS @ POINTS.T + 1.0).abs() / 3.0
    assert ((notes_kernel(found) - EXACT_NOTES).abs() <= 4.0 * error).all()
    assert error.max() <= 2e-3 * EXACT_NOTES.max()


@pytest.mark.parametrize("W_law", LAWS[:4], ids=lambda law: law.kind)
@pytest.mark.parametrize("b_law", LAWS[:4], ids=lambda law: law.kind)
def test_quadratic_by_its_fourth_cumulants(W_law: Law, b_law: Law) -> None:
    """`q q' + 2 S^2 + kappa_w (c_w x)^2 (c_w x')^2 + kappa_b c_b^4`, kappa the fourth cumulants."""
    x = normals(5, 1)
    found = first_layer_moments(QUADRATIC, Preactivation(W_law, 0.8, b_law, 1.1), x)
    w, b = 0.64 * (x @ x.T), 1.21
    second = w * W_law.variance + b * b_law.variance
    q = second.diagonal()
    fourth = w**2 * W_law.cumulant(4) + b**2 * b_law.cumulant(4)
    assert found.method == "exact"
    assert_close(found.pair.value, q[:, None] * q + 2.0 * second**2 + fourth)
    assert_close(found.pair.slope, 4.0 * second)


def oracle(profile: Profile, W: Any, b: Any, x1: float, x2: float) -> list[float]:
    """Nested adaptive quadrature over (w, b), the inner one split at the kinks, for `z = x w + b`."""
    assert profile.pieces is not None
    kinks = profile.pieces.kinks
    w_low, w_high = np.clip(W.support(), -60.0, 60.0)
    b_low, b_high = np.clip(b.support(), -60.0, 60.0)

    def inner(function: Any, w: float) -> float:
        cuts = sorted(
            {b_low, b_high, *(np.clip(k - x * w, b_low, b_high) for k in kinks for x in (x1, x2)), 0.0}
        )
        node, weight = special.roots_legendre(40)
        total = 0.0
        for low, high in itertools.pairwise(cuts):
            for start, end in itertools.pairwise(np.linspace(low, high, 1 + math.ceil((high - low) / 2.0))):
                at = start + 0.5 * (end - start) * (1.0 + node)
                s1, s2 = (function(torch.from_numpy(x * w + at)).numpy() for x in (x1, x2))
                total += 0.5 * (end - start) * (weight * s1 * s2 * b.pdf(at)).sum()
        return float(total)

    places = [(k - edge) / x for k in kinks for x in (x1, x2) for edge in (b_low, b_high) if x]
    places += [(k - other) / (x1 - x2) for k in kinks for other in kinks if x1 != x2]
    inside = sorted({w_low, w_high, 0.0, *(p for p in places if w_low < p < w_high)})
    return [
        sum(
            integrate.quad(
                lambda w, f=f: inner(f, w) * W.pdf(w), *part, epsabs=1e-11, epsrel=1e-11, limit=200
            )[0]
            for part in itertools.pairwise(inside)
        )
        for f in (profile.function, profile.derivative)
    ]


BOX, WIDE = stats.uniform(-0.5, 1.0), stats.uniform(-1.0, 2.0)


@pytest.mark.parametrize(
    ("profile", "preactivation", "W", "b"),
    [
        (RELU, NOTES, WIDE, BOX),
        (HARD, NOTES, WIDE, BOX),
        (CUBE, NOTES, WIDE, BOX),
        (STEP, NOTES, WIDE, BOX),
        (RELU, Preactivation(UNIFORM, 1.0, Laplace(scale=2**0.5), 0.5), WIDE, stats.laplace(scale=0.5)),
        (RELU, Preactivation(Normal(), 1.0, HALF, 1.0), stats.norm(), BOX),
    ],
    ids=["relu", "hard", "cube", "step", "laplace-bias", "normal-weight"],
)
def test_splitting_against_nested_quadrature(
    profile: Profile, preactivation: Preactivation, W: Any, b: Any
) -> None:
    x = torch.tensor([[0.9], [-1.3], [0.02]], dtype=torch.float64)
    found = first_layer_moments(profile, preactivation, x)
    assert found.method == "exact"
    for i, j in ((1, 1), (0, 1), (2, 0)):
        value, slope = oracle(profile, W, b, float(x[i, 0]), float(x[j, 0]))
        assert float(found.pair.value[i, j]) == pytest.approx(value, abs=1e-10)
        assert float(found.pair.slope[i, j]) == pytest.approx(slope, abs=1e-10)


@pytest.mark.parametrize("profile", [RELU, HARD, CUBE], ids=["relu", "hard", "cube"])
@pytest.mark.parametrize(
    ("W_law", "b_law"),
    [
        (UNIFORM, HALF),
        (UNIFORM, None),
        (UNIFORM, Zero()),
        (Rademacher(), HALF),
        (Laplace(), Rademacher(scale=0.3)),
        (StudentT(df=13.0), Laplace(scale=0.2)),
        (StudentT(df=13.0), None),
    ],
    ids=lambda law: getattr(law, "kind", "none"),
)
def test_splitting_against_samples(profile: Profile, W_law: Law, b_law: Law | None) -> None:
    preactivation = Preactivation(W_law, 0.7, b_law, 1.2)
    x = torch.tensor([[1.0], [-0.4], [0.3], [2.0]], dtype=torch.float64)
    found = first_layer_moments(profile, preactivation, x)
    assert found.method == "exact"
    samples = sample_means(profile, drawn(preactivation, x, 400_000, seed=3))
    for got, (mean, error) in zip((found.pair.value, found.pair.slope), samples, strict=True):
        assert (np.abs(got.numpy() - mean) <= 4.0 * error + 1e-15).all()


def test_discrete_laws_by_sums() -> None:
    """Pre-activations of 0 have a probability here, at which the step is 1 and relu's derivative 0."""
    preactivation = Preactivation(Rademacher(), 1.0, Rademacher(scale=0.5), 2.0)
    x = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, -1.0]], dtype=torch.float64)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
    z = x @ signs[:, :2].T + signs[:, 2]
    assert (z == 0).any()
    for profile in (STEP, RELU):
        found = first_layer_moments(profile, preactivation, x)
        assert found.method == "exact"
        for got, function in ((found.pair.value, profile.function), (found.pair.slope, profile.derivative)):
            assert_close(got, function(z) @ function(z).T / 8.0 + 0.0)


def test_a_zero_row_has_the_value_at_the_kink() -> None:
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    step = first_layer_moments(STEP, Preactivation(UNIFORM, 1.0), x)
    assert_close(step.pair.value, torch.tensor([[1.0, 0.5], [0.5, 0.5]], dtype=torch.float64))
    relu = first_layer_moments(RELU, Preactivation(UNIFORM, 1.0), x)
    assert_close(relu.pair.slope, torch.tensor([[0.0, 0.0], [0.0, 0.5]], dtype=torch.float64))


def test_inputs_of_very_different_lengths() -> None:
    """`E[relu(z) relu(z')] = x x' E[w^2] / 2` without a bias, and its limits with one."""
    x = torch.tensor([[1e-12], [1e12]], dtype=torch.float64)
    bare = first_layer_moments(RELU, Preactivation(Laplace(), 1.0), x)
    assert_close(bare.pair.value / (x @ x.T), torch.full((2, 2), 0.5, dtype=torch.float64))
    biased = first_layer_moments(RELU, Preactivation(UNIFORM, 1.0, Laplace(), 1.0), x)
    assert float(biased.own.value[0]) == pytest.approx(0.5, rel=1e-11)
    assert float(biased.own.value[1]) == pytest.approx(1e24 / 6.0, rel=1e-11)


# --- layout


@pytest.mark.parametrize("d", [1, 2])
def test_layouts_agree(d: int) -> None:
    x1, x2 = normals(3, d), normals(3, d, seed=1)
    precision = Precision(points=256)

    def moments(*x: Tensor, **options: Any) -> FirstLayerMoments:
        return first_layer_moments(RELU, NOTES, *x, precision=precision, **options)

    both, between, paired = moments(torch.cat([x1, x2])), moments(x1, x2), moments(x1, x2, paired=True)
    for got, want in zip(between.pair, both.pair, strict=True):
        if got is not None and want is not None:
            assert_close(got, want[:3, 3:], rtol=1e-11)
    for whole, rows, pairs in ((both.own, between.own, paired.own), (both.own, both.own, both.own)):
        assert_close(rows.value, whole.value)
        assert_close(pairs.slope, whole.slope)
    assert_close(paired.pair.value, between.pair.value.diagonal())
    assert_close(both.own.value, both.pair.value.diagonal())
    assert torch.equal(both.pair.value, both.pair.value.T)


def test_float32_is_that_of_float64() -> None:
    x = normals(4, 2).float()
    single, double = (
        first_layer_moments(ERF, NOTES, each, precision=Precision(256)) for each in (x, x.double())
    )
    assert single.pair.value.dtype == torch.float32
    assert_close(single.pair.value, double.pair.value.float())


# --- sampling


def erf_kernels(second: Tensor) -> list[Tensor]:
    """Williams (1996)."""
    q = second.diagonal()
    roots = ((1.0 + 2.0 * q)[:, None] * (1.0 + 2.0 * q)).sqrt()
    value = 2.0 / math.pi * torch.asin(2.0 * second / roots)
    return [value, 4.0 / math.pi / (roots**2 - 4.0 * second**2).sqrt()]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("d", [3, 20])
def test_standard_errors_are_those_of_the_error(d: int, seed: int) -> None:
    """Against the closed form of erf under normal laws: neither too small nor too large."""
    x = normals(30, d)
    precision = Precision(points=1024, seed=seed)
    preactivation = Preactivation(Normal(), d**-0.5, Normal(scale=0.4), 1.0)
    found = first_layer_moments(ERF, preactivation, x, precision=precision)
    wanted = erf_kernels(x @ x.T / d + 0.16)
    errors = found.pair.value_error, found.pair.slope_error
    for got, want, error in zip((found.pair.value, found.pair.slope), wanted, errors, strict=True):
        assert error is not None
        true = (got - want).abs()
        assert (true <= 4.0 * error.max()).all()
        typical = float((true.square().mean() / error.square().mean()).sqrt())
        assert 0.3 <= typical <= 2.0


@pytest.mark.parametrize("profile", [RELU, unit(torch.tanh, 0)], ids=["relu", "tanh"])
@pytest.mark.parametrize(
    ("W_law", "b_law"),
    [
        (Uniform(half_width=1.7), None),
        (Laplace(), HALF),
        (StudentT(df=9.0), Rademacher()),
        (Rademacher(), UNIFORM),
    ],
    ids=lambda law: getattr(law, "kind", "none"),
)
def test_sampling_against_plain_samples(profile: Profile, W_law: Law, b_law: Law | None) -> None:
    x = normals(12, 3)
    preactivation = Preactivation(W_law, 3**-0.5, b_law, 0.5)
    found = first_layer_moments(profile, preactivation, x, precision=Precision(points=2048))
    assert found.method == "quadrature"
    samples = sample_means(profile, drawn(preactivation, x, 300_000, seed=5))
    errors = found.pair.value_error, found.pair.slope_error
    for got, own, (mean, spread) in zip((found.pair.value, found.pair.slope), errors, samples, strict=True):
        assert own is not None
        combined = np.sqrt(spread**2 + float(own.max()) ** 2)
        assert (np.abs(got.numpy() - mean) <= 4.0 * combined).all()
        assert float(own.max()) <= 5e-3 * float(got.max())


def test_points_grow_until_the_errors_are_what_was_asked_for() -> None:
    x = normals(20, 4)
    preactivation = Preactivation(Laplace(), 0.5, HALF, 1.0)
    found = [first_layer_moments(ERF, preactivation, x, rtol=rtol) for rtol in (2e-2, 2e-3)]
    for each, rtol in zip(found, (2e-2, 2e-3), strict=True):
        assert each.pair.value_error is not None
        assert float(each.pair.value_error.max()) <= 2.0 * rtol * float(each.pair.value.max())
        assert each.warnings == ()
    assert found[0].precision is not None
    assert found[1].precision is not None
    assert found[0].precision.points < found[1].precision.points
    again = first_layer_moments(ERF, preactivation, x, rtol=2e-3)
    assert torch.equal(again.pair.value, found[1].pair.value)


def test_a_target_out_of_reach_is_told() -> None:
    found = first_layer_moments(ERF, Preactivation(Laplace(), 0.5), normals(2, 4), rtol=1e-9)
    assert found.precision is not None
    assert found.precision.points == 2**16
    assert any("over 1e-09" in warning for warning in found.warnings)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_positive_semi_definite_with_fewer_points_than_inputs(d: int) -> None:
    """Also put together from parts, as long as these use the same points."""
    x = normals(90, d)
    precision = Precision(points=2, randomisations=2)
    whole = first_layer_moments(RELU, NOTES, x, precision=precision).pair
    x1, x2 = x[:40], x[40:]
    parts = [
        first_layer_moments(RELU, NOTES, *each, precision=precision).pair for each in ((x1,), (x1, x2), (x2,))
    ]
    for index in range(2):
        a, b, c = (part[index] for part in parts)
        assert a is not None
        assert b is not None
        assert c is not None
        joined = torch.cat([torch.cat([a, b], 1), torch.cat([b.T, c], 1)])
        got = whole[index]
        assert got is not None
        assert_close(joined, got)
        values = torch.linalg.eigvalsh(joined)
        assert values[0] >= -1e-13 * values[-1]


# --- what does not exist


def fast(rate: float) -> Profile:
    return unit(lambda z: torch.exp(rate * z), 0, rate=rate)


@pytest.mark.parametrize(
    ("profile", "preactivation", "said"),
    [
        (QUADRATIC, Preactivation(StudentT(df=4.0), 1.0), "order 4, and W_law"),
        (QUADRATIC, Preactivation(Normal(), 1.0, StudentT(df=3.0), 1.0), "order 4, and b_law"),
        (RELU, Preactivation(StudentT(df=2.0), 1.0), "order 2, and W_law"),
        (fast(0.1), Preactivation(StudentT(df=50.0), 1.0), "exp"),
        (fast(0.5), Preactivation(Laplace(), 1.0), "below 0.707"),
    ],
    ids=["quadratic", "bias", "relu", "exp-student", "exp-laplace"],
)
@pytest.mark.parametrize("d", [1, 3])
def test_refusals(profile: Profile, preactivation: Preactivation, said: str, d: int) -> None:
    with pytest.raises(UnsupportedError, match=said) as caught:
        first_layer_moments(profile, preactivation, 2.0 * torch.ones(1, d, dtype=torch.float64))
    assert caught.value.hint is not None


@pytest.mark.parametrize(("df", "doubted"), [(4.5, True), (8.0, True), (8.5, False)])
def test_error_bars_that_do_not_exist_are_told(df: float, doubted: bool) -> None:
    preactivation = Preactivation(StudentT(df=df), 1.0)
    found = first_layer_moments(QUADRATIC, preactivation, normals(2, 2), precision=Precision(256))
    assert [("order 8" in warning) for warning in found.warnings] == [True] * doubted
    exact = first_layer_moments(QUADRATIC, preactivation, normals(2, 1))
    assert exact.method == "exact"
    assert exact.warnings == ()


def test_exponentials_of_laplace_weights_where_they_exist() -> None:
    """`E[exp(t w)] = 1 / (1 - t^2 / 2)` for variance 1."""
    x = torch.tensor([[0.5, 0.2], [-0.3, 0.4]], dtype=torch.float64)
    found = first_layer_moments(fast(0.3), Preactivation(Laplace(), 1.0), x, precision=Precision(2**13))
    t = 0.3 * (x[:, None] + x[None])
    want = (1.0 / (1.0 - t**2 / 2.0)).prod(-1)
    assert found.pair.value_error is not None
    assert ((found.pair.value - want).abs() <= 4.0 * found.pair.value_error.max()).all()
    assert relative_difference(found.pair.value, want) <= 1e-4


# --- deep networks


def deep_ntk(first: list[Array], x: Array) -> Array:
    """The NTK of two hidden layers of relu without further biases, once `E[s s']` and `E[s' s']` of the first
    are known; the second is Gaussian."""
    K, slope = first
    inner = K + (x @ x.T / x.shape[1] + 1.0) * slope
    second = np.zeros((2, *K.shape))
    functions = (lambda z: np.maximum(z, 0.0), lambda z: (z > 0) * 1.0)
    for (i, j), row in itertools.product(np.ndindex(K.shape), range(2)):
        # coincident inputs: relu is half of |z| on average
        own = (K[i, i] / 2.0, 0.5)[row]
        second[row, i, j] = (
            own if i == j else expectation(functions[row], *map(float, (K[i, i], K[i, j], K[j, j])))
        )
    value, derivative = second
    result: Array = value + inner * derivative
    return result


def test_only_the_first_hidden_layer_keeps_its_law() -> None:
    """The hybrid agrees with wide networks, an all-Gaussian recursion does not."""
    weight, bias = Rademacher(), Uniform(half_width=0.5)
    x = torch.tensor([[1.0], [-0.6], [0.3]], dtype=torch.float64)
    found = first_layer_moments(RELU, Preactivation(weight, 1.0, bias, 1.0), x)
    hybrid = deep_ntk([found.pair.value.numpy(), found.pair.slope.numpy()], x.numpy())
    normal = Preactivation(Normal(), 1.0, Normal(scale=12**-0.5), 1.0)
    gaussian = first_layer_moments(RELU, normal, x)
    plain = deep_ntk([gaussian.pair.value.numpy(), gaussian.pair.slope.numpy()], x.numpy())
    dense: dict[str, Any] = {"kind": "dense", "width": 1000}
    first = dense | {
        "W_law": {"kind": "rademacher"},
        "b_std": 1.0,
        "b_law": {"kind": "uniform", "half_width": 0.5},
    }
    layers = [first, {"kind": "relu"}, dense, {"kind": "relu"}, dense | {"width": 1}]
    model: Model = from_jsonable(Model, {"layers": layers})
    kernels = np.stack([empirical_ntk(model.network((1,), seed=seed), x).numpy() for seed in range(16)])
    error = kernels.std(0, ddof=1) / 4.0
    assert (np.abs(kernels.mean(0) - hybrid) <= 4.0 * error).all()
    assert (np.abs(kernels.mean(0) - plain) / error).max() >= 8.0
