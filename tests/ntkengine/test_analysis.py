"""Measures of kernels, against their definitions written out in numpy, and their properties."""

import numpy as np
import pytest
import torch
from scipy import stats

from ntkengine.analysis import (
    alignment,
    centred_alignment,
    cka,
    condition_number,
    cosine_distance,
    effective_rank,
    fit_exponent,
    kernel_distance,
    kernel_velocity,
    layer_shares,
    median_interval,
    spectrum,
)
from ntkengine.errors import SpecError
from tests.compare import assert_close

N, K = 6, 3


def blocks(seed: int) -> np.ndarray:
    """A positive semi-definite kernel (n, n, k, k)."""
    j = np.random.default_rng(seed).standard_normal((N, K, 40))
    return np.asarray(np.einsum("iap,jbp->ijab", j, j))


def forms(seed: int) -> list[np.ndarray]:
    """The kernel with its blocks, and as its trace."""
    full = blocks(seed)
    return [full, np.einsum("ijaa->ij", full)]


def matrix(kernel: np.ndarray) -> np.ndarray:
    """The matrix over pairs (input, output), entry by entry."""
    if kernel.ndim == 2:
        return kernel
    rows = [(i, a) for i in range(N) for a in range(K)]
    return np.array([[kernel[i, j, a, b] for j, b in rows] for i, a in rows])


def centring(kernel: np.ndarray) -> np.ndarray:
    """`H x 1` over inputs."""
    h = np.eye(N) - 1.0 / N
    return h if kernel.ndim == 2 else np.kron(h, np.eye(K))


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.vdot(first, second) / np.linalg.norm(first) / np.linalg.norm(second))


TARGETS = np.random.default_rng(9).standard_normal((N, K))


def target_matrix(kernel: np.ndarray) -> np.ndarray:
    return TARGETS @ TARGETS.T if kernel.ndim == 2 else np.outer(TARGETS.ravel(), TARGETS.ravel())


@pytest.mark.parametrize("form", [0, 1])
def test_measures_are_their_definitions(form: int) -> None:
    k1, k2 = forms(1)[form], forms(2)[form]
    t1, t2, y = torch.from_numpy(k1), torch.from_numpy(k2), torch.from_numpy(TARGETS)
    m1, m2, h, target = matrix(k1), matrix(k2), centring(k1), target_matrix(k1)
    change = np.linalg.norm(m2 - m1) / np.linalg.norm(m1)
    expected = {
        kernel_distance(t2, t1): change,
        kernel_velocity(t1, t2, 0.1, t1): change / 0.1,
        cosine_distance(t1, t2): 1 - cosine(m1, m2),
        cka(t1, t2): cosine(h @ m1 @ h, h @ m2 @ h),
        alignment(t1, y): cosine(m1, target),
        centred_alignment(t1, y): cosine(h @ m1 @ h, h @ target @ h),
        effective_rank(t1): np.linalg.eigvalsh(m1).sum() ** 2 / (np.linalg.eigvalsh(m1) ** 2).sum(),
    }
    for measured, value in expected.items():
        assert measured.shape == ()
        assert_close(measured, value)


@pytest.mark.parametrize("form", [0, 1])
def test_spectrum_is_that_of_the_matrix(form: int) -> None:
    kernel = forms(1)[form]
    found = spectrum(torch.from_numpy(kernel), top=4)
    eigenvalues = np.linalg.svd(matrix(kernel), compute_uv=False)  # another decomposition: K is positive
    assert_close(found.eigenvalues, eigenvalues[:4])
    assert_close(found.condition_number, eigenvalues[0] / eigenvalues[-1], rtol=1e-10)
    assert_close(found.effective_rank, eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def test_a_singular_kernel_has_the_condition_number_of_rounding() -> None:
    j = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = spectrum(j @ j.T, top=8)
    assert float(found.condition_number) == pytest.approx(1 / (8 * np.finfo(float).eps), rel=1e-12)
    assert float(found.effective_rank) <= 3
    assert float(condition_number(torch.tensor([5.0, -1e-9]))) == pytest.approx(1 / (2 * 2.0**-23))


def test_effective_rank_of_known_spectra() -> None:
    assert float(effective_rank(torch.eye(7))) == pytest.approx(7)
    assert float(effective_rank(torch.ones(7, 7))) == pytest.approx(1)


def test_what_similarities_do_not_see() -> None:
    """The cosine distance: scale. CKA: scale, and what is constant along rows and along columns."""
    k, other = (torch.from_numpy(form) for form in forms(3))
    row = torch.linspace(0, 1, N, dtype=torch.float64)
    assert_close(cosine_distance(7 * k, k) + 1, 1.0)
    assert_close(cka(3 * other + row[:, None] + row + 5, other), 1.0)
    assert float(kernel_distance(7 * k, k)) == pytest.approx(6)
    permuted = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert_close(cka(k[permuted][:, permuted], k.flip(2, 3)[permuted][:, permuted]), cka(k, k.flip(2, 3)))


def test_cosine_distance_of_kernels_that_nearly_agree() -> None:
    """Half the squared angle, which `1 - cosine` would lose in rounding."""
    k = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    near = torch.tensor([[1.0, 0.0], [0.0, 1e-9]], dtype=torch.float64)
    assert float(cosine_distance(k, near)) == pytest.approx(0.5e-18, rel=1e-6)


def test_alignment_is_one_for_the_targets_alone() -> None:
    y = torch.from_numpy(TARGETS)
    assert_close(alignment(y @ y.T, y), 1.0)
    assert_close(alignment(torch.einsum("ia,jb->ijab", y, y), y), 1.0)
    assert_close(centred_alignment(y @ y.T + 3.0, y), 1.0)
    assert float(alignment(y @ y.T + 3.0, y)) < 0.99


def test_measures_of_many_kernels_at_once() -> None:
    many = torch.stack([torch.from_numpy(blocks(seed)) for seed in range(3)])
    start = torch.from_numpy(blocks(7))
    mapped = torch.vmap(lambda k: kernel_distance(k, start))(many)
    assert_close(mapped, torch.stack([kernel_distance(k, start) for k in many]))
    found = torch.vmap(lambda k: spectrum(k, top=2))(many)
    assert_close(found.eigenvalues[1], spectrum(many[1], top=2).eigenvalues)


def test_shares_of_layers() -> None:
    for form in (0, 1):
        kernels = {"a": forms(1)[form], "b": forms(2)[form]}
        traces = {path: np.trace(matrix(kernel)) for path, kernel in kernels.items()}
        found = layer_shares({path: torch.from_numpy(kernel) for path, kernel in kernels.items()})
        for path, share in found.items():
            assert_close(share, traces[path] / sum(traces.values()))


WIDTHS = np.array([32, 64, 128, 256, 512])


def power_law(seed: int, exponent: float, seeds: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((len(WIDTHS), seeds))
    return 3.0 * WIDTHS[:, None] ** exponent * np.exp(0.5 * noise)


def test_exponent_is_the_least_squares_slope() -> None:
    values = power_law(0, -1.0, 12)
    found = fit_exponent(WIDTHS, values)
    slope = np.polynomial.Polynomial.fit(np.log(WIDTHS), np.log(np.median(values, 1)), 1).convert().coef[1]
    assert found.slope == pytest.approx(slope, rel=1e-10)
    assert found.low < found.slope < found.high
    assert fit_exponent(WIDTHS, values) == found  # no chance in it
    assert fit_exponent(WIDTHS, values, level=0.5).low > found.low


def test_interval_of_an_exponent_is_scipys() -> None:
    values = power_law(1, -0.5, 20)

    def slope(at: np.ndarray) -> float:
        return float(np.polyfit(np.log(WIDTHS), np.log(np.median(values[:, at], axis=1)), 1)[0])

    found = stats.bootstrap(
        (np.arange(20),), slope, vectorized=False, method="percentile", confidence_level=0.9
    ).confidence_interval
    mine = fit_exponent(WIDTHS, values, level=0.9)
    width = found.high - found.low
    assert mine.low == pytest.approx(found.low, abs=0.1 * width)
    assert mine.high == pytest.approx(found.high, abs=0.1 * width)


def test_intervals_cover() -> None:
    """Of samples of 20 seeds, a 90 % interval covers most medians and most exponents."""
    medians = [median_interval(power_law(s, 0.0, 20)[0], level=0.9) for s in range(100)]
    assert sum(low <= 3.0 <= high for _, low, high in medians) >= 80
    slopes = [fit_exponent(WIDTHS, power_law(s, -1.0, 20), level=0.9) for s in range(40)]
    assert 30 <= sum(low <= -1.0 <= high for _, low, high in slopes) < 40


@pytest.mark.parametrize(
    ("widths", "values"),
    [
        ([10], [[1.0, 2.0]]),
        ([10, 10], [[1.0, 2.0]] * 2),
        ([10, 20], [[1.0, 2.0]] * 3),
        ([10, 20], [[1.0]] * 2),
        ([10, 20], [[1.0, np.nan]] * 2),
        ([10, 20], [[1.0, 0.0]] * 2),
    ],
)
def test_what_has_no_exponent(widths: list[float], values: list[list[float]]) -> None:
    with pytest.raises(SpecError):
        fit_exponent(widths, values)


def test_median_of_few_values() -> None:
    with pytest.raises(SpecError, match="at least 2 seeds"):
        median_interval([1.0])
    found = median_interval([4.0, 1.0, 2.0, 8.0])
    assert found.median == 3.0
    assert (found.low, found.high) == (1.0, 8.0)
