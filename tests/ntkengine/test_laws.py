import math
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from ntkengine import Laplace, Normal, Rademacher, StudentT, Uniform, Zero
from ntkengine.laws import Law, cumulants

LAWS: list[tuple[Law, Any]] = [
    (Normal(scale=1.3), stats.norm(scale=1.3)),
    (Uniform(half_width=0.7), stats.uniform(-0.7, 1.4)),
    (Laplace(scale=0.9), stats.laplace(scale=0.9 / math.sqrt(2))),
    (StudentT(df=9.5, scale=0.8), stats.t(9.5, scale=0.8)),
]


@pytest.mark.parametrize(("law", "reference"), LAWS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("order", [2, 4, 6, 8])
def test_moments_by_quadrature(law: Law, reference: Any, order: int) -> None:
    half, _ = integrate.quad(lambda w: w**order * reference.pdf(w), 0, reference.support()[1], limit=500)
    assert law.moment(order) == pytest.approx(2 * half, rel=1e-7)
    assert law.moment(order - 1) == 0


@pytest.mark.parametrize(
    "law", [law for law, _ in LAWS] + [Rademacher(scale=0.6), Zero()], ids=lambda law: law.kind
)
def test_samples_follow_the_law(law: Law) -> None:
    drawn = law.sample(np.random.default_rng(0), 200_000)
    for order in (1, 2, 3):
        spread = math.sqrt(law.moment(2 * order) / len(drawn))
        assert abs((drawn**order).mean() - law.moment(order)) <= 4 * spread


@pytest.mark.parametrize("law", [law for law, _ in LAWS] + [Rademacher()], ids=lambda law: law.kind)
def test_a_longer_draw_begins_with_a_shorter_one(law: Law) -> None:
    short, long = (law.sample(np.random.default_rng(5), count) for count in (7, 1000))
    assert np.array_equal(short, long[:7])


def test_cumulants() -> None:
    assert Uniform(half_width=1.0).cumulant(4) == pytest.approx(-2 / 15)  # kappa_4 = -(2h)^4 / 120
    assert Laplace(scale=1.0).cumulant(4) == pytest.approx(3.0)  # excess kurtosis 3
    assert Rademacher().cumulant(4) == pytest.approx(-2.0)
    assert [Normal(scale=2.0).cumulant(k) for k in (2, 4, 6)] == [4.0, 0.0, 0.0]
    shifted = cumulants((1.0, 3.0, 10.0, 36.0))  # of mean 3: variance 1, third central moment 0
    assert shifted[1:] == pytest.approx((3.0, 1.0, 0.0))


def test_moments_that_do_not_exist() -> None:
    law = StudentT(df=4.0)
    assert law.variance == pytest.approx(2.0)
    assert math.isinf(law.moment(4))
    assert math.isinf(law.cumulant(6))
