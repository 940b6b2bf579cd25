"""Networks played as steps on strips of blocks, against their rules one after the other."""

import pytest
import torch

from ntkengine import (
    Abs,
    Conv,
    Cos,
    Dense,
    Dropout,
    Erf,
    Exp,
    Flatten,
    Gelu,
    Identity,
    LeakyRelu,
    Model,
    Parallel,
    Quadratic,
    RectifiedMonomial,
    Relu,
    Repeat,
    Serial,
    Sign,
    Standard,
    Tanh,
    Uniform,
    infinite_kernel,
)
from ntkengine.activations import AnyActivation
from ntkengine.infinite import chain as module
from ntkengine.infinite.chain import Chain
from ntkengine.infinite.fold import Fold
from ntkengine.layers import AnyLayer

HIDDEN = Dense(W_std=1.3, b_std=0.2)


def inputs(dtype: torch.dtype) -> torch.Tensor:
    """With rows that coincide, nearly coincide, oppose each other and vanish."""
    x = torch.randn(23, 5, dtype=dtype, generator=torch.Generator().manual_seed(0))
    x[7], x[11], x[15], x[16] = x[2], 3 * x[2], -x[4], 0.0
    x[21] = x[3] * (1 + 1e-6 * torch.arange(5))
    return x


def placed(*layers: AnyLayer, shape: tuple[int, ...] = (5,), symbolic: bool = True) -> Fold:
    return Fold(Model(layers=layers).place(shape), symbolic=symbolic)


@pytest.mark.parametrize(
    "activation",
    [
        Relu(),
        LeakyRelu(),
        Abs(),
        Erf(),
        Gelu(),
        Cos(),
        Exp(),
        Sign(),
        Quadratic(),
        RectifiedMonomial(degree=2),
    ],
    ids=lambda each: each.kind,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_steps_give_what_the_rules_give(
    activation: AnyActivation, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STRIP", 40)  # several strips, the last one ragged
    monkeypatch.setattr(module, "ROWS", 9)
    fold = placed(HIDDEN, activation, Dense(W_std=0.4), Relu(), HIDDEN)
    x = inputs(dtype)
    x2 = torch.cat((x[:4], x.flip(0)[:9]))
    probe = fold.probe(x)
    assert probe.nearness > 0
    for other, columns in ((None, slice(3, 20)), (None, slice(20, 23)), (x2, slice(1, 12))):
        chain = Chain.of(fold, x, other, probe.nearness)
        assert chain is not None
        rows = slice(3, 20)
        same = other is None and rows == columns
        rules = fold.block(x[rows], None if same else (x if other is None else other)[columns], probe)
        for got, expected in zip(chain.block(rows, columns), (rules.nngp.pair, rules.ntk.pair), strict=True):
            assert got.dtype == dtype
            error = (got - expected).abs().max() / expected.abs().max()
            assert error < 32 * torch.finfo(dtype).eps
            assert not same or torch.equal(got, got.T)


def test_nested_sequences_and_lower_powers_of_the_width() -> None:
    """A standard network keeps its leading terms: biases are below those of the weights."""
    inner = Serial(layers=(HIDDEN, Erf()))
    model = Model(layers=(Repeat(layer=inner, times=3), Dense(width=1)), parameterization=Standard())
    fold, x = Fold(model.place((5,)), symbolic=True), inputs(torch.float64)
    chain = Chain.of(fold, x, None, 0.0)
    assert chain is not None
    assert len(chain.steps) == 7
    rules = fold.block(x, None, fold.probe(x))
    nngp, ntk = chain.block(slice(0, 23), slice(0, 23))
    torch.testing.assert_close(nngp, rules.nngp.pair, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(ntk, rules.ntk.pair, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    "layers",
    [
        (HIDDEN, Tanh(), Dense()),
        (Relu(), HIDDEN, Relu(), Dense()),
        (Dense(W_law=Uniform(half_width=1.0)), Relu(), Dense()),
        (Dense(W_law=Uniform(half_width=1.0)), Quadratic(), Dense()),
        (HIDDEN, Dropout(keep_rate=0.5), Relu(), Dense()),
        (HIDDEN, Relu(), Parallel(branches=(Identity(), Serial(layers=(Relu(), HIDDEN)))), Dense()),
    ],
    ids=["numeric", "on the inputs", "uniform", "cumulants", "dropout", "branches"],
)
def test_other_networks_are_left_to_their_rules(layers: tuple[AnyLayer, ...]) -> None:
    assert Chain.of(placed(*layers), inputs(torch.float64), None, 0.0) is None


def test_images_are_left_to_their_rules() -> None:
    fold = placed(Conv(filter_shape=(2,)), Relu(), Flatten(), Dense(), shape=(4, 3))
    assert Chain.of(fold, torch.ones(2, 4, 3), None, 0.0) is None


def test_many_blocks_agree_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the front door: the plan has one block for a few inputs, and several for all of them."""
    calls: list[bool] = []
    of = Chain.of

    def watched(*arguments: object) -> Chain | None:
        found = of(*arguments)  # type: ignore[arg-type]
        calls.append(found is not None)
        return found

    monkeypatch.setattr(Chain, "of", watched)
    x = torch.randn(600, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[599] = x[0] * (1 + 1e-9)
    model = Model(layers=(HIDDEN, Relu(), HIDDEN, Gelu(), Dense(width=1)), output_scale=0.5)
    whole = infinite_kernel(model, x)
    assert calls == [True]
    picked = [0, 17, 300, 301, 599]
    few = infinite_kernel(model, x[picked])
    assert calls == [True]
    for name in ("nngp", "ntk"):
        torch.testing.assert_close(
            getattr(whole, name)[picked][:, picked], getattr(few, name), rtol=1e-13, atol=1e-15
        )
