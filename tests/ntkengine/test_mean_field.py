"""The mean-field limit: particles against another program, exact kernels, exact and wide finite networks."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from ntkengine import Model, RunSpec, SpecError, UnsupportedError, infinite_kernel
from ntkengine.dynamics.particles import gauss_rule, particles
from ntkengine.laws import Laplace, Law, Normal, Rademacher, StudentT, Uniform, Zero
from ntkengine.spec import from_jsonable
from tests.cases import HALF, UNIFORM
from tests.compare import assert_close
from tests.ntkengine.test_dynamics import assert_same, interrupted, points, quadratic, series

LIMIT = {"kind": "mean_field", "lr_scale": "width"}
POINTS = {"x": [[1.0], [-1.0]], "y": [[1.0], [1.0]], "x_test": [[0.5], [0.0], [-0.25]]}


def limit(t_end: float, **changes: Any) -> RunSpec:
    training = {"kind": "mean_field", "t_end": t_end} | changes.pop("training", {})
    record = [
        {"what": what, "schedule": {"kind": "linear", "points": 3}}
        for what in changes.pop("what", ("loss", "outputs"))
    ]
    model = quadratic(8, parameterization=LIMIT)
    base = {"model": model, "data": POINTS, "training": training, "record": record}
    result: RunSpec = from_jsonable(RunSpec, base | changes)
    return result


@pytest.mark.parametrize("law", [Uniform(half_width=0.5), Normal(scale=2.0), Laplace()])
@pytest.mark.parametrize("order", [1, 4, 11])
def test_gauss_rules_have_the_moments_of_their_law(law: Law, order: int) -> None:
    nodes, probabilities = gauss_rule(law, order)
    assert len(nodes) == order
    assert (probabilities > 0).all()
    for j in range(0, 2 * order, 2):
        assert probabilities @ nodes**j == pytest.approx(law.even_moment(j), rel=1e-11)
    assert np.abs(nodes + nodes[::-1]).max() < 1e-12 * np.sqrt(law.variance)


def test_gauss_rules_that_are_known() -> None:
    for law, (nodes, weights) in (
        (Uniform(half_width=1.0), np.polynomial.legendre.leggauss(9)),
        (Normal(), np.polynomial.hermite_e.hermegauss(9)),
    ):
        found = gauss_rule(law, 9)
        assert_close(found[0], nodes)
        assert_close(found[1], weights / weights.sum())


def test_laws_of_few_values_have_few_nodes() -> None:
    nodes, probabilities = gauss_rule(Rademacher(scale=3.0), 8)
    assert_close(nodes, [-3.0, 3.0])
    assert_close(probabilities, [0.5, 0.5])
    assert [part.tolist() for part in gauss_rule(Zero(), 8)] == [[0.0], [1.0]]


def test_which_particles() -> None:
    few = particles([Uniform()] * 3, 1331, 0)
    assert (few.rule, few.points.shape) == ("gauss", (1331, 3))
    for laws in ([Uniform()] * 12, [StudentT(df=9.0), Normal()]):
        many = particles(laws, 5000, 0)
        assert (many.rule, many.points.shape) == ("sobol", (4096, len(laws)))
        assert_close(many.probabilities, np.full(4096, 1 / 4096))
        for law, column in zip(laws, many.points.T, strict=True):  # one in each 4096th of the probability
            edges = law.quantile(np.arange(1, 4096) / 4096)
            assert (np.searchsorted(edges, np.sort(column)) == np.arange(4096)).all()


def test_limit_by_another_program() -> None:
    """The quadratic network's equations written out, on a Gauss-Legendre rule of another order."""
    run = limit(3.0, what=("outputs", "weights"))
    recorded = points(run)
    expected = by_numpy([point.time for point in recorded], 14)
    assert_close(series(recorded, "outputs_test")[..., 0], expected, rtol=1e-6)
    weights: Any = recorded[-1].values["weights"]
    f = mean_output(weights, np.array([0.5, 0.0, -0.25]))  # of the recorded distribution
    assert_close(f, expected[-1], rtol=1e-6)
    assert weights["probabilities"].sum() == pytest.approx(1.0, abs=1e-13)


def mean_output(weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    w, b, v = (weights[name].ravel() for name in ("layers.0.W", "layers.0.b", "layers.2.W"))
    return np.asarray(((w * x[:, None] + b) ** 2 * v) @ weights["probabilities"])


def by_numpy(times: list[float], order: int) -> np.ndarray:
    nodes, weights = np.polynomial.legendre.leggauss(order)
    w, b, v = (g.ravel() for g in np.meshgrid(nodes, nodes / 2, nodes, indexing="ij"))
    p = np.einsum("i,j,k->ijk", weights, weights, weights).ravel() / 8
    x = np.array([1.0, -1.0])[:, None]

    def velocity(_: float, theta: np.ndarray) -> np.ndarray:
        w, b, v = theta.reshape(3, -1)
        z = w * x + b
        r = (z**2 * v) @ p - 1.0
        return -np.concatenate([(r * x[:, 0]) @ (2 * v * z), r @ (2 * v * z), r @ z**2])

    start = np.concatenate([w, b, v])
    found = solve_ivp(velocity, (0.0, times[-1]), start, "DOP853", times, rtol=1e-9, atol=1e-11).y.T
    names = ("layers.0.W", "layers.0.b", "layers.2.W")
    tests = np.array(POINTS["x_test"])[:, 0]
    return np.array(
        [
            mean_output(dict(zip(names, theta.reshape(3, -1), strict=True)) | {"probabilities": p}, tests)
            for theta in found
        ]
    )


def test_kernel_of_the_limit() -> None:
    """At the start that of infinite width, exactly; the outputs follow it; and it changes."""
    recorded = points(limit(3.0, what=("kernel", "slopes", "kernel_distance", "displacement")))
    same, across = 1073 / 720, 113 / 720
    assert_close(recorded[0].values["kernel"], [[same, across], [across, same]])
    assert_close(series(recorded, "slopes", "measured"), series(recorded, "slopes", "predicted"), rtol=1e-9)
    assert series(recorded, "kernel_distance")[-1] > 1


def test_a_law_of_few_values_is_a_finite_network() -> None:
    """w, v = +-1: four particles, each of probability 1/4, are the network of those four neurons."""
    signs = {"kind": "rademacher"}
    model = {
        "layers": [
            {"kind": "dense", "width": 4, "W_law": signs},
            {"kind": "tanh"},
            {"kind": "dense", "width": 1, "W_law": signs},
        ],
        "parameterization": LIMIT,
    }
    flow = {"rtol": 1e-10, "atol": 1e-12}
    data = POINTS | {"y": [[1.0], [-0.5]]}  # the network is odd
    infinite = points(limit(4.0, model=model, data=data, training=flow, what=("outputs", "displacement")))
    neurons = {"layers.0.W": [[1.0, 1.0, -1.0, -1.0]], "layers.2.W": [[1.0], [-1.0], [1.0], [-1.0]]}
    training = flow | {"kind": "gradient_flow"}
    same = limit(
        4.0, model=model, data=data, training=training, what=("outputs", "displacement"), weights=neurons
    )
    finite = points(same)
    for name in ("outputs", "outputs_test", "displacement"):
        assert_close(series(infinite, name) + 1, series(finite, name) + 1, rtol=1e-9)
    assert abs(series(infinite, "outputs_test")[-1]).max() > 0.1


def test_conserved_by_every_particle() -> None:
    """`w_k^2 - 2 v_k^2` of quadratic neurons without bias."""
    model = {
        "layers": [
            {"kind": "dense", "W_law": UNIFORM},
            {"kind": "quadratic"},
            {"kind": "dense", "width": 1, "W_law": {"kind": "normal"}},
        ],
        "parameterization": LIMIT,
    }
    recorded = points(limit(4.0, model=model, what=("weights",), training={"particles": 64}))
    w, v = (series(recorded, "weights", f"layers.{i}.W").reshape(len(recorded), 64) for i in (0, 2))
    invariant = w**2 - 2 * v**2
    assert (np.abs(invariant - invariant[0]) / (w**2 + 2 * v**2)).max() < 1e-7
    assert np.abs(w - w[0]).max() > 0.1


def test_more_particles_change_nothing() -> None:
    """Gauss rules converge exponentially: 6, 8, 10 points along each weight, against 14."""
    ends = [
        series(points(limit(2.0, training={"particles": order**3}))[-1:], "outputs_test")[0]
        for order in (6, 8, 10, 14)
    ]
    errors = [np.abs(end - ends[-1]).max() for end in ends[:-1]]
    assert errors[0] < 1e-4
    assert errors[1] < 0.1 * errors[0]
    assert errors[2] < 1e-6


def test_wide_networks_come_to_the_limit() -> None:
    """As N^-1/2: 16 times the width, a quarter of the distance (rms over seeds and points)."""
    t_end = 2.0
    exact = series(points(limit(t_end)), "outputs_test")
    distances = [distance(exact, width, t_end, tuple(range(24))) for width in (40, 640)]
    assert distances[0] / distances[1] == pytest.approx(4.0, rel=0.35)
    assert distances[1] < 0.1 * np.abs(exact).max()


def distance(exact: np.ndarray, width: int, t_end: float, seeds: tuple[int, ...]) -> float:
    run = limit(
        t_end, model=quadratic(width, parameterization=LIMIT), seeds=seeds,
        training={"kind": "gradient_flow", "rtol": 1e-6},
    )  # fmt: skip
    found = series(points(run), "outputs_test")  # (moments, seeds, points, 1)
    return float(np.sqrt(np.mean((found[1:] - exact[1:, None]) ** 2)))


def test_sobol_particles() -> None:
    """Six inputs: 4,096 points, whose kernel is near the exact one and whose outputs follow it."""
    x = np.random.default_rng(0).standard_normal((5, 6))
    model = {
        "layers": [
            {"kind": "dense", "b_std": 0.5, "b_law": HALF},
            {"kind": "tanh"},
            {"kind": "dense", "width": 2},
        ],
        "parameterization": LIMIT,
    }
    data = {"x": x.tolist(), "y": np.sign(x[:, :2]).tolist()}
    run = limit(
        1.0,
        model=model,
        data=data,
        what=("kernel", "slopes", "loss"),
        training={"particles": 4096, "rtol": 1e-6},
    )
    recorded = points(run)
    wide = from_jsonable(Model, model | {"parameterization": {"kind": "ntk"}})
    exact = infinite_kernel(wide, torch.from_numpy(x)).ntk
    assert_close(recorded[0].values["kernel"], exact, rtol=0.01)
    assert_close(series(recorded, "slopes", "measured"), series(recorded, "slopes", "predicted"), rtol=1e-9)
    assert series(recorded, "loss")[-1] < series(recorded, "loss")[0]


def test_a_resumed_limit() -> None:
    run = limit(1.0, training={"particles": 125}, what=("outputs", "weights", "path", "kernel_velocity"))
    assert_same(interrupted(run), run)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"parameterization": {"kind": "ntk"}}, "/model/parameterization"),
        ({"parameterization": {"kind": "mean_field"}}, "/model/parameterization"),
        ({"initial_function": "centred"}, "/model/initial_function"),
        ({"layers": [{"kind": "dense", "width": 3}, {"kind": "dense", "width": 1}]}, "/model/layers"),
        (
            {"layers": [{"kind": "dense"}, {"kind": "relu"}, {"kind": "dense", "width": 1, "b_std": 1.0}]},
            "/model/layers",
        ),
    ],
)
def test_what_has_no_limit(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        limit(1.0, model=quadratic(8, parameterization=LIMIT) | changes).check()
    assert caught.value.pointer == pointer


def test_a_limit_starts_from_its_law() -> None:
    weights = {"layers.0.W": [[0.0] * 1331], "layers.0.b": [0.0] * 1331, "layers.2.W": [[0.0]] * 1331}
    with pytest.raises(SpecError, match="those of the law"):
        points(limit(1.0, weights=weights))
