"""The catalogue: its runs show what they say, in the numbers that they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ntkengine.dynamics import Point, train
from ntkengine.experiments import EXPERIMENTS


def run(name: str) -> list[Point]:
    return [
        point for segment in train(EXPERIMENTS[name].spec, segment_seconds=60.0) for point in segment.points
    ]


def series(points: list[Point], name: str) -> Any:
    return np.array([point.values[name] for point in points])


def test_names_are_the_keys() -> None:
    assert all(name == each.name for name, each in EXPERIMENTS.items())
    titles = [each.title for each in EXPERIMENTS.values()]
    assert len(set(titles)) == len(titles)


def test_one_linear_neuron_follows_hyperbolas() -> None:
    points = run("linear_one_neuron")
    weights: list[Any] = [point.values["weights"] for point in points]
    w, v = (np.array([each[name].ravel() for each in weights]) for name in ("layers.0.W", "layers.2.W"))
    conserved = w**2 - v**2
    np.testing.assert_allclose(conserved, np.broadcast_to(conserved[0], conserved.shape), atol=1e-6)
    c = conserved[0, :4]
    np.testing.assert_allclose(w[-1, :4] ** 2, (c + np.sqrt(c**2 + 4)) / 2, rtol=1e-6)
    losses = series(points, "loss")
    assert losses[-1, 4] == pytest.approx(losses[0, 4] / 4)  # the saddle
    twin: Any = points[-1].values["linearized"]
    theta0 = np.stack([w[0], v[0]])
    slope = 2 * (theta0**2).sum(0)
    expected = losses[0] * np.exp(-slope * points[-1].time)
    np.testing.assert_allclose(twin["loss"], expected, rtol=1e-3, atol=1e-16)


# by the numbers that the texts state
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("quadratic_one_neuron", 0.79992),
        ("quadratic_ntk_2", 10.4),
        ("quadratic_ntk_10", 4.0),
        ("quadratic_standard_10", 1.1),
        ("quadratic_standard_1000", 1.2e-4),
        ("quadratic_mean_field_10", 22),
        ("quadratic_mean_field_limit", 10.3),
        ("quadratic_ntk_10_scaled", 0.24),
    ],
)
def test_kernels_change_as_said(name: str, change: float) -> None:
    points = run(name)
    assert points[-1].values["kernel_distance"] == pytest.approx(change, rel=0.05)
    losses = series(points, "loss")
    assert losses[-1] < 1e-9 * losses[0]
    for point in points:
        slopes: Any = point.values["slopes"]
        np.testing.assert_allclose(slopes["measured"], slopes["predicted"], rtol=1e-6, atol=1e-9)
