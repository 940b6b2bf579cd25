"""What holds for the kernel of any network: every kind of layer, drawn inputs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkengine import Model, infinite_gram, infinite_kernel
from ntkengine.analysis import diagnose
from ntkengine.errors import SpecError
from tests.cases import LAYER_KINDS, inputs, model
from tests.compare import assert_close

SMOOTH = {"kind": "erf"}


def smooth(layer: Any) -> Any:
    """The layer with every relu replaced: with a kink, pairs of patches keep half their digits."""
    if isinstance(layer, dict):
        replaced = {key: smooth(value) for key, value in layer.items()}
        return SMOOTH if layer == {"kind": "relu"} else replaced
    return [smooth(each) for each in layer] if isinstance(layer, list) else layer


def network(name: str) -> tuple[Model, tuple[int, ...]]:
    shape, layers = LAYER_KINDS[name]
    return model(smooth(layers(8))), shape


def drawn(seed: int, n: int, shape: tuple[int, ...]) -> torch.Tensor:
    return inputs(n * math.prod(shape), 1, seed=seed).reshape(n, *shape)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 7), name=st.sampled_from(sorted(LAYER_KINDS)))
def test_gram_matrices(seed: int, n: int, name: str) -> None:
    """Symmetric, positive semi-definite, equivariant, and any rectangle is a part of the square."""
    spec, shape = network(name)
    x = drawn(seed, n, shape)
    kernel = infinite_kernel(spec, x)
    for square in (kernel.nngp, kernel.ntk):
        assert torch.equal(square, square.T)
        diagnose(square, entry_error=kernel.entry_error)  # raises unless positive semi-definite
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert_close(infinite_kernel(spec, x[order]).ntk, kernel.ntk[order][:, order], rtol=1e-11)
    assert_close(infinite_kernel(spec, x[:1], x[1:]).ntk, kernel.ntk[:1, 1:], rtol=1e-11)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(40, 90),
    name=st.sampled_from(sorted(LAYER_KINDS)),
    spare=st.integers(0, 2**21),
)
def test_a_smaller_budget_gives_the_same_kernel(seed: int, n: int, name: str, spare: int) -> None:
    spec, shape = network(name)
    x = drawn(seed, n, shape)
    whole = infinite_kernel(spec, x)
    parts = infinite_kernel(spec, x, budget=17 * 2**20 + spare)
    assert parts.plan.count > whole.plan.count or parts.plan.block == whole.plan.block
    assert_close(parts.ntk, whole.ntk, rtol=1e-11)
    assert_close(parts.nngp, whole.nngp, rtol=1e-11)


@pytest.mark.parametrize("name", ["dense, relu", "conv 2d, global_avg_pool"])
def test_on_disk(name: str, tmp_path: Path) -> None:
    """The same kernel, and a second call computes nothing."""
    shape, layers = LAYER_KINDS[name]
    spec, x = model(layers(8)), drawn(0, 30, shape)
    whole = infinite_kernel(spec, x)
    calls: list[tuple[int, int, float]] = []
    fields: Any = {"directory": tmp_path / "gram", "progress": lambda *told: calls.append(told)}
    infinite_gram(spec, x, **fields)
    stored = infinite_gram(spec, x, **fields)
    assert stored.fraction() == 1.0
    assert_close(stored.rows("ntk", 0, 30), whole.ntk, rtol=1e-11)
    assert_close(stored.rows("nngp", 10, 20), whole.nngp[10:20], rtol=1e-11)
    assert len(calls) == calls[0][1]
    for another, others in ((model(layers(8), output_scale=2.0), x), (spec, x + 1e-9)):
        with pytest.raises(SpecError, match="another"):
            infinite_gram(another, others, **fields)
