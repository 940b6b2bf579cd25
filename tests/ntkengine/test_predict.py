"""Closed-form training against explicit loops, matrix exponentials, trained models and other systems."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ntkengine import empirical_ntk, infinite_kernel
from ntkengine.errors import NumericalError, SpecError
from ntkengine.losses import AnyLoss, CrossEntropy, HalfMean, HalfSum, Logistic, Mean
from ntkengine.predict import (
    Blocks,
    Descent,
    Evolution,
    Flow,
    MomentumFlow,
    ensemble,
    evolve,
    gp_inference,
    gradient_descent,
    gradient_flow,
    integrate,
    largest_learning_rate,
    leave_one_out,
)
from tests.cases import DEEP, inputs, model, quadratic, with_activation
from tests.compare import assert_close

GOLDEN = Path(__file__).parents[1] / "golden" / "predict"
CASES = [
    pytest.param(case, id=case["id"]) for case in json.loads((GOLDEN / "manifest.json").read_text())["cases"]
]


def kernel(n: int, m: int = 3, rank: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """K(X, X) and K(x, X) of n and m points with so many features."""
    features = inputs(n + m, rank, seed=seed) / math.sqrt(rank)
    return features[:n] @ features[:n].mT, features[n:] @ features[:n].mT


def blocks(n: int, m: int, k: int) -> tuple[Tensor, Tensor]:
    """The same, of shapes (n, n, k, k) and (m, n, k, k): outputs are coupled."""
    K, C = kernel(n * k, m * k)
    return tuple(each.reshape(-1, k, n, k).permute(0, 2, 1, 3) for each in (K, C))  # type: ignore[return-value]


# Other systems


@pytest.mark.parametrize("case", CASES)
def test_reference_predictions(case: dict[str, Any]) -> None:
    with np.load(GOLDEN / case["arrays"], allow_pickle=False) as file:
        known = {name: torch.from_numpy(array) for name, array in file.items()}
    y, eta = known["y_train"], case["learning_rate"]
    ridge = {name: ridge_of(case, known[f"{name}_dd"]) for name in ("nngp", "ntk")}
    flow = Flow(times=tuple(eta * float(t) for t in case["t"]), loss=HalfMean())
    kernels = {name: Blocks(*(known[f"{name}_{part}"] for part in ("dd", "td", "tt"))) for name in ridge}
    for name, of_this in ridge.items():
        found = ensemble(kernels, y, flow, inference=name, ridge=of_this)  # type: ignore[arg-type]
        # there, the training outputs are those of a kernel with the ridge on its diagonal
        nugget = {**kernels, name: Blocks(on_diagonal(known[f"{name}_dd"], of_this))}
        trained = ensemble(nugget, y, flow, inference=name)  # type: ignore[arg-type]
        for i, t in enumerate(case["t"]):
            got = {
                f"ens_{name}_mean_t{float(t):g}": found.mean_test,
                f"ens_{name}_cov_t{float(t):g}": found.covariance_test,
                f"ens_{name}_train_mean_t{float(t):g}": trained.mean_train,
                f"ens_{name}_train_cov_t{float(t):g}": trained.covariance_train,
            }
            compared = {key: array for key, array in got.items() if key in known}
            assert len(compared) == (2 if t == "inf" else 4)
            for key, array in compared.items():
                assert_close(array[i], known[key], rtol=case["rtol"])  # type: ignore[index]
    start: Any = {"f0_train": known["fx0_train"], "f0_test": known["fx0_test"]}
    path = evolve(flow, on_diagonal(known["ntk_dd"], ridge["ntk"]), y, known["ntk_td"], **start)
    for i, t in enumerate(case["t"]):
        assert_close(path.train[i], known[f"gd_train_t{float(t):g}"], rtol=case["rtol"])
        assert_close(path.test[i], known[f"gd_test_t{float(t):g}"], rtol=case["rtol"])  # type: ignore[index]


@pytest.mark.parametrize("case", CASES)
def test_reference_inference(case: dict[str, Any]) -> None:
    with np.load(GOLDEN / case["arrays"], allow_pickle=False) as file:
        known = {name: torch.from_numpy(array) for name, array in file.items()}
    n, k = known["y_train"].shape
    kernels = {
        name: Blocks(*(known[f"{name}_{part}"] for part in ("dd", "td", "tt"))) for name in ("nngp", "ntk")
    }
    for name, kind in (("nngp", "nngp"), ("ntk", "ntk"), ("ntkgp", "ntk")):
        ridge = ridge_of(case, known[f"{kind}_dd"])
        found = gp_inference(kernels, known["y_train"], inference=name, ridge=ridge)  # type: ignore[arg-type]
        assert_close(found.mean_test[0], known[f"gp_{name}_mean"], rtol=case["rtol"])  # type: ignore[index]
        assert_close(found.covariance_test[0], known[f"gp_{name}_cov"], rtol=case["rtol"])  # type: ignore[index]
    for key, expected in case["scalars"].items():
        momentum, outputs = float(key.split("_")[2][3:]), {"none": 1, "full": k}[key.split("_")[-1]]
        found_rate = largest_learning_rate(known["ntk_dd"], n, outputs, momentum=momentum, loss=HalfMean())
        assert found_rate == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_reference_differential_equations(case: dict[str, Any]) -> None:
    with np.load(GOLDEN / case["arrays"], allow_pickle=False) as file:
        known = {name: torch.from_numpy(array) for name, array in file.items()}
    eta, t = case["learning_rate"], case["ode_t"]
    start: Any = {"f0_train": known["fx0_train"], "f0_test": known["fx0_test"]}
    K, C = known["ntk_dd"], known["ntk_td"]
    times = tuple(eta * each for each in t)
    found: dict[str, Any] = {
        "mse": evolve(Flow(times=times, loss=HalfMean()), K, known["y_train"], C, **start),
        "msemom": evolve(
            MomentumFlow(learning_rate=eta, momentum=0.9, times=tuple(t), loss=HalfMean()),
            K,
            known["y_train"],
            C,
            **start,
        ),
    }
    if "ode_xent_train" in known:
        mean_over_points = [each / len(K) for each in times]  # ours is a sum
        found["xent"] = integrate(
            K, known["y_onehot"], C, times=mean_over_points, loss=CrossEntropy(), **start
        )
    for name, path in found.items():
        assert_close(path.train, known[f"ode_{name}_train"], rtol=case["rtol_ode"])
        assert_close(path.test, known[f"ode_{name}_test"], rtol=case["rtol_ode"])


def ridge_of(case: dict[str, Any], K: Tensor) -> float:
    return float(case["diag_reg"] * (1.0 if case["diag_reg_absolute_scale"] else K.diagonal().mean()))


def on_diagonal(K: Tensor, ridge: float) -> Tensor:
    return K + ridge * torch.eye(len(K), dtype=K.dtype)


# Brute force


@pytest.mark.parametrize("loss", [HalfSum(), HalfMean(), Mean()])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_flow_is_a_matrix_exponential(loss: AnyLoss, ridge: float) -> None:
    K, C = kernel(7)
    y, f0, g0 = inputs(7, 2), inputs(7, 2, seed=1), inputs(3, 2, seed=2)
    found = gradient_flow(K, y, C, times=[0.0, 0.7, 9.0], f0_train=f0, f0_test=g0, loss=loss, ridge=ridge)
    c = {"half_sum": 1.0, "half_mean": 1 / 14, "mean": 1 / 7}[loss.kind]
    # d(f - f0)/dt = -c (K (f - f0) + ridge (f - f0) + K (f0 - y)): linear, by an augmented exponential
    K_all = torch.cat([torch.cat([K, C]), torch.zeros(10, 3, dtype=torch.float64)], 1)
    augmented = torch.zeros(12, 12, dtype=torch.float64)
    augmented[:10, :10] = -c * (K_all + ridge * torch.eye(10, dtype=torch.float64))
    augmented[:10, 10:] = -c * K_all[:, :7] @ (f0 - y)
    for i, t in enumerate((0.0, 0.7, 9.0)):
        moved = torch.from_numpy(scipy.linalg.expm(t * augmented.numpy()))[:10, 10:]
        assert_close(found.train[i], f0 + moved[:7])
        assert_close(found.test[i], g0 + moved[7:])  # type: ignore[index]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_steps_are_a_loop(momentum: float, ridge: float) -> None:
    K, C = kernel(7)
    y, f0, g0 = inputs(7, 2), inputs(7, 2, seed=1), inputs(3, 2, seed=2)
    rate = 0.6 * largest_learning_rate(K, 7, 2, momentum=momentum, loss=Mean(), ridge=ridge)
    steps = (0, 1, 2, 17, 400)
    found = gradient_descent(
        K, y, C, learning_rate=rate, steps=steps, momentum=momentum, f0_train=f0, f0_test=g0,
        loss=Mean(), ridge=ridge,
    )  # fmt: skip
    everything, f = torch.cat([K, C]), torch.cat([f0, g0])
    velocity, start = torch.zeros_like(f), f.clone()
    seen = {0: f}
    for step in range(1, 401):
        gradient = everything @ (f[:7] - y) + ridge * (f - start)
        velocity = momentum * velocity + gradient / 7
        f = f - rate * velocity
        seen[step] = f
    for i, step in enumerate(steps):
        assert_close(torch.cat([found.train[i], found.test[i]]), seen[step])  # type: ignore[index]


def test_momentum_flow_is_a_differential_equation() -> None:
    K, _ = kernel(5)
    y, beta, eta = inputs(5, 1), 0.8, 0.3
    found = evolve(MomentumFlow(learning_rate=eta, momentum=beta, times=(2.0, 30.0, math.inf)), K, y)

    def derivative(_: float, state: Any) -> Any:
        f, g = state[:5], state[5:]
        return np.concatenate([g, -eta * K.numpy() @ (f - y.numpy()[:, 0]) - (1 - beta) * g])

    path = solve_ivp(
        derivative, (0, 30), np.zeros(10), t_eval=[2, 30], method="DOP853", rtol=1e-12, atol=1e-13
    )
    assert_close(found.train[:2, :, 0], path.y[:5].T, rtol=1e-9)
    assert_close(found.train[2], y)


def test_small_steps_are_the_flow_and_large_ones_are_not() -> None:
    # in one mode, f - y after time 1 / lambda; the maximum over time of |(1 - x)^(t / x) - e^-t|
    for x, largest in ((0.01, 0.0018), (0.1, 0.019), (0.5, 0.118), (1.0, 0.37)):
        steps = range(200)
        one = torch.ones(1, 1, dtype=torch.float64)
        by_steps = gradient_descent(one, one, learning_rate=x, steps=tuple(steps)).train
        by_flow = gradient_flow(one, one, times=[x * step for step in steps]).train
        assert float((by_steps - by_flow).abs().max()) == pytest.approx(largest, rel=0.05)


def test_coupled_outputs() -> None:
    K, C = blocks(4, 2, 3)
    y, f0, g0 = inputs(4, 3), inputs(4, 3, seed=1), inputs(2, 3, seed=2)
    found = gradient_flow(K, y, C, times=[0.4], f0_train=f0, f0_test=g0)
    generator = torch.zeros(18, 18, dtype=torch.float64)
    generator[:, :12] = torch.cat([each.permute(0, 2, 1, 3).reshape(-1, 12) for each in (K, C)])
    start = torch.cat([f0 - y, g0]).reshape(-1)
    end = torch.from_numpy(scipy.linalg.expm(-0.4 * generator.numpy())) @ start
    assert_close(found.train[0], y + end[:12].reshape(4, 3))
    assert_close(found.test[0], end[12:].reshape(2, 3))  # type: ignore[index]
    shared, crossed = kernel(4, 2)
    identity = torch.eye(3, dtype=torch.float64)
    spread = [each[:, :, None, None] * identity for each in (shared, crossed)]
    assert_close(
        gradient_flow(spread[0], y, spread[1], times=[0.4]).test,
        gradient_flow(shared, y, crossed, times=[0.4]).test,
    )


def test_a_linearised_model_trains_as_predicted() -> None:
    """Steps on the weights of f_lin, in weight space, by torch's own optimiser."""
    network = model(with_activation(DEEP, {"kind": "erf"})).network((4,), seed=3)
    x, points, y = inputs(5), inputs(3, seed=5), inputs(5, 3, seed=6)
    K, C = empirical_ntk(network, x, outputs="full"), empirical_ntk(network, points, x, outputs="full")
    names = [name for name, _ in network.named_parameters()]

    def jacobian(where: Tensor) -> Tensor:
        each = torch.func.jacrev(lambda w: torch.func.functional_call(network, w, (where,)))(
            dict(network.named_parameters())
        )
        return torch.cat([each[name].reshape(len(where) * 3, -1) for name in names], 1).detach()

    J, f0, g0 = jacobian(x), network(x).detach(), network(points).detach()
    rate = 0.5 * largest_learning_rate(K, 5, 3, momentum=0.7, loss=Mean())
    displacement = torch.zeros(J.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([displacement], lr=rate, momentum=0.7)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.MSELoss()(f0 + (J @ displacement).reshape(5, 3), y).backward()
        optimiser.step()
    found = gradient_descent(
        K, y, C, learning_rate=rate, steps=[60], momentum=0.7, f0_train=f0, f0_test=g0, loss=Mean()
    )
    moved = displacement.detach()
    assert_close(found.train[0], f0 + (J @ moved).reshape(5, 3), rtol=1e-8)
    assert_close(found.test[0], g0 + (jacobian(points) @ moved).reshape(3, 3), rtol=1e-8)  # type: ignore[index]


# Singular kernels


@pytest.mark.parametrize("n", [4, 7, 30])
def test_quadratic_kernel_of_rank_three(n: int) -> None:
    x = torch.linspace(-1.0, 1.3, n + 2, dtype=torch.float64)[:, None]
    theta = infinite_kernel(quadratic(), x).ntk
    y = torch.sin(3 * x[:n]) + x[:n] ** 2
    found = gradient_flow(theta[:n, :n], y, theta[n:, :n], times=[0.5, 50.0, 1e6, math.inf])
    assert found.diagnostics.rank == 3
    assert found.diagnostics.condition_number is None
    assert any("rank is 3" in warning for warning in found.warnings)
    # its functions are the parabolas, so that the end of training is the parabola of least squares
    design = torch.cat([x**0, x, x**2], 1)
    fit = design @ torch.linalg.lstsq(design[:n], y).solution
    assert_close(found.train[-1], fit[:n], rtol=1e-10)
    assert_close(found.test[-1], fit[n:], rtol=1e-10)  # type: ignore[index]
    assert_close(found.test[-2], fit[n:], rtol=1e-6)  # type: ignore[index]
    exact = y - torch.from_numpy(scipy.linalg.expm(-0.5 * theta[:n, :n].numpy())) @ y
    assert_close(found.train[0], exact, rtol=1e-11)
    with pytest.raises(NumericalError, match="singular"):
        leave_one_out(theta[:n, :n], y)


def test_negative_eigenvalues_of_rounding_are_clipped_and_counted() -> None:
    features = inputs(30, 3)
    K = features @ features.mT
    found = gradient_flow(K, inputs(30, 1, seed=2), times=[1e9])
    assert found.diagnostics.clipped > 0
    assert found.diagnostics.lambda_min < 0
    assert found.diagnostics.rank == 3
    assert float(found.train.abs().max()) < 10
    with pytest.raises(NumericalError, match="positive semi-definite"):
        gradient_flow(K - 0.1 * torch.eye(30, dtype=torch.float64), inputs(30, 1), times=[1.0])


def test_a_kernel_that_is_zero() -> None:
    zero, y = torch.zeros(2, 2, dtype=torch.float64), inputs(2, 1)
    found = gradient_flow(zero, y, times=[0.0, 5.0, math.inf], f0_train=0.5)
    assert_close(found.train, torch.full((3, 2, 1), 0.5, dtype=torch.float64))
    assert largest_learning_rate(zero, 2, 1) == math.inf


def test_unstable_steps_are_told() -> None:
    K, _ = kernel(5)
    rate = largest_learning_rate(K, 5, 1)
    stable = gradient_descent(K, inputs(5, 1), learning_rate=0.99 * rate, steps=[20_000])
    assert stable.warnings == ()
    assert_close(stable.train[0], inputs(5, 1), rtol=1e-8)
    unstable = gradient_descent(K, inputs(5, 1), learning_rate=1.01 * rate, steps=[2000])
    assert any("1.01 times the largest stable" in warning for warning in unstable.warnings)
    assert float(unstable.train.abs().max()) > 1e6


# Ensembles


@pytest.mark.parametrize("inference", ["ntk", "nngp", "ntkgp"])
def test_ensembles_are_averages(inference: Any) -> None:
    """Cov f = M S M^T over all points, M the linear map from outputs at the start to outputs at t."""
    S = kernel(8, 0, seed=1)[0]
    K = kernel(8, 0, seed=2)[0]
    y, n, t, ridge = inputs(5, 2), 5, 1.7, 0.4
    parts = {"nngp": S, "ntk": K}
    cut: Any = {name: Blocks(each[:n, :n], each[n:, :n], each[n:, n:]) for name, each in parts.items()}
    found = ensemble(cut, y, Flow(times=(t,)), inference=inference, ridge=ridge)
    moving, prior, noise = {"ntk": (K, S, 0), "nngp": (S, S, ridge), "ntkgp": (K, K, ridge)}[inference]
    shifted = (moving[:n, :n] + ridge * torch.eye(n, dtype=torch.float64)).numpy()
    gain = torch.from_numpy(np.linalg.solve(shifted, np.eye(n) - scipy.linalg.expm(-t * shifted)))
    M = torch.eye(8, dtype=torch.float64)
    M[:, :n] -= moving[:, :n] @ gain
    expected = M @ prior @ M.mT + noise * (moving[:, :n] @ gain) @ (moving[:, :n] @ gain).mT
    assert_close(found.covariance_train[0], expected[:n, :n])
    assert_close(found.covariance_test[0], expected[n:, n:])  # type: ignore[index]
    assert_close(found.mean_test[0], moving[n:, :n] @ gain @ y)  # type: ignore[index]


def test_what_an_ensemble_needs() -> None:
    K = Blocks(kernel(3)[0])
    with pytest.raises(SpecError, match="needs the nngp"):
        ensemble({"ntk": K}, inputs(3, 1), Flow(times=(1.0,)))


# Leave-one-out


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("joint", [False, True])
def test_leave_one_out_is_training_without(ridge: float, joint: bool) -> None:
    K = blocks(6, 0, 2)[0] if joint else kernel(6)[0]
    y, f0 = inputs(6, 2), inputs(6, 2, seed=1)
    found = leave_one_out(K, y, ridge=ridge, f0=f0)
    for i in range(6):
        rest = [j for j in range(6) if j != i]
        again = gradient_flow(
            K[rest][:, rest],
            y[rest],
            K[[i]][:, rest],
            times=[math.inf],
            ridge=ridge,
            f0_train=f0[rest],
            f0_test=f0[[i]],
        )
        assert_close(found[i], again.test[0, 0] - y[i], rtol=1e-10)  # type: ignore[index]


# Other losses


@pytest.mark.parametrize("loss", [CrossEntropy(), Logistic()])
def test_other_losses_are_integrated(loss: AnyLoss) -> None:
    K, C = kernel(6)
    labels = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1, 2]]
    y = labels if loss.kind == "cross_entropy" else 2 * labels - 1
    f0 = inputs(6, 3)
    found = integrate(K, y, C, times=[20.0, 1.0], loss=loss, f0_train=f0)
    f, rate = torch.cat([f0, torch.zeros(3, 3, dtype=torch.float64)]), 1e-3
    everything = torch.cat([K, C])
    for _ in range(1000):  # explicit midpoints; the gradient of the loss's value by torch

        def slope(f: Tensor) -> Tensor:
            at = f[:6].clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss.value(at, y), at)
            return -everything @ gradient

        f = f + rate * slope(f + 0.5 * rate * slope(f))
    assert_close(torch.cat([found.train[1], found.test[1]]), f, rtol=1e-6)  # type: ignore[index]
    assert float(loss.value(found.train[0], y)) < float(loss.value(found.train[1], y))
    for nothing in (0.0, 1e-200):
        assert_close(integrate(K, y, times=[nothing], loss=loss, f0_train=f0).train[0], f0)
    with pytest.raises(SpecError, match="no end"):
        integrate(K, y, times=[math.inf], loss=loss)
    with pytest.raises(SpecError, match="squared"):
        gradient_flow(K, y, times=[1.0], loss=loss)


def test_stiff_equations_agree_with_the_closed_form() -> None:
    K = torch.diag(torch.tensor([1e4, 1.0, 1e-3], dtype=torch.float64))
    y = inputs(3, 1)
    found = integrate(K, y, times=[100.0], loss=HalfSum())
    assert_close(found.train, gradient_flow(K, y, times=[100.0]).train, rtol=1e-6)
    assert found.solver["evaluations"] < 3000  # an explicit method needs more than a hundred thousand


# Digits


RATES = [0.0, 1e-18, 1e-9, 1e-3, 0.7, 1.0, 1.9]
EVOLUTIONS = [
    Flow(times=(0.0, 1e-6, 3.0, 1e6)),
    Descent(learning_rate=1.0, steps=(0, 1, 7, 100_000)),
    Descent(learning_rate=1.0, steps=(0, 1, 7, 100_000), momentum=0.5),
    MomentumFlow(learning_rate=1.0, momentum=0.5, times=(0.0, 1e-6, 3.0, 1e3)),
]


@pytest.mark.parametrize("evolution", EVOLUTIONS, ids=lambda each: each.kind)
def test_gain_and_decay_in_fifty_digits(evolution: Evolution) -> None:
    """(1 - decay) / rate cancels at small rates, decay at late times: ours does neither."""
    rates = torch.tensor(RATES, dtype=torch.float64)
    gain, decay = evolution.gain(rates), evolution.decay(rates)
    with mpmath.workdps(50):
        for i, moment in enumerate(evolution.moments):
            for j, rate in enumerate(RATES):
                exact_decay, exact_gain = exactly(evolution, mpmath.mpf(rate), mpmath.mpf(moment))
                assert float(gain[i, j]) == pytest.approx(float(exact_gain), rel=1e-10, abs=1e-300)
                assert float(decay[i, j]) == pytest.approx(float(exact_decay), abs=1e-12)


def exactly(evolution: Any, rate: Any, moment: Any) -> tuple[Any, Any]:
    """decay and gain of one mode: by the recurrence of f and the last step, or the equation of motion."""
    beta = getattr(evolution, "momentum", 0.0)
    if evolution.kind == "gradient_descent":
        A = mpmath.matrix([[1 - rate, beta, 1], [-rate, beta, 1], [0, 0, 1]])
        gain = (A ** int(moment))[0, 2]
    elif evolution.kind == "momentum_flow":
        roots = mpmath.polyroots([1, 1 - beta, rate], maxsteps=200, extraprec=200)
        p, q = roots
        decay = (p * mpmath.exp(q * moment) - q * mpmath.exp(p * moment)) / (p - q)
        late = moment / (1 - beta) - (1 - mpmath.exp(-(1 - beta) * moment)) / (1 - beta) ** 2
        gain = mpmath.re((1 - decay) / rate) if rate else late
    else:
        gain = -mpmath.expm1(-rate * moment) / rate if rate else moment
    return 1 - rate * gain, gain
