"""Networks played as steps on strips of blocks, against their rules one after the other."""

from typing import Any

import pytest
import torch

from ntkengine import (
    Abs,
    Aggregate,
    AvgPool,
    Conv,
    ConvLocal,
    ConvTranspose,
    Cos,
    Dense,
    Dropout,
    Erf,
    Exp,
    ExpNormalized,
    Flatten,
    Gelu,
    GlobalAvgPool,
    Identity,
    LayerNorm,
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
    SumPool,
    Tanh,
    Uniform,
    infinite_kernel,
)
from ntkengine.activations import AnyActivation
from ntkengine.infinite import chain as module
from ntkengine.infinite.chain import Chain, Name
from ntkengine.infinite.fold import Fold
from ntkengine.layers import AnyLayer
from ntkengine.positions import exchanged
from ntkengine.state import KernelState

HIDDEN = Dense(W_std=1.3, b_std=0.2)
PLENTY = 2.0**30  # bytes
BOTH: tuple[Name, ...] = ("nngp", "ntk")


def inputs(dtype: torch.dtype) -> torch.Tensor:
    """With rows that coincide, nearly coincide, oppose each other and vanish."""
    x = torch.randn(23, 5, dtype=dtype, generator=torch.Generator().manual_seed(0))
    x[7], x[11], x[15], x[16] = x[2], 3 * x[2], -x[4], 0.0
    x[21] = x[3] * (1 + 1e-6 * torch.arange(5))
    return x


def check(
    kernels: dict[Name, torch.Tensor], rules: KernelState, roundings: int, dtype: torch.dtype, *, same: bool
) -> None:
    """Those of the rules, to so many rounding errors; symmetric to the last bit where they are to be."""
    for got, expected in ((kernels["nngp"], rules.nngp.pair), (kernels["ntk"], rules.ntk.pair)):
        assert (got.dtype, got.shape) == (dtype, expected.shape)
        assert (got - expected).abs().max() / expected.abs().max() < roundings * torch.finfo(dtype).eps
        assert not same or torch.equal(got, exchanged(got))


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
    monkeypatch.setattr(module, "ENTRIES", 9)
    fold = placed(HIDDEN, activation, Dense(W_std=0.4), Relu(), HIDDEN)
    x = inputs(dtype)
    x2 = torch.cat((x[:4], x.flip(0)[:9]))
    probe = fold.probe(x)
    assert probe.nearness > 0
    for other, columns in ((None, slice(3, 20)), (None, slice(20, 23)), (x2, slice(1, 12))):
        chain = Chain.of(fold, x, other, PLENTY)
        assert chain is not None
        rows = slice(3, 20)
        same = other is None and rows == columns
        rules = fold.block(x[rows], None if same else (x if other is None else other)[columns], probe)
        check(chain.block(rows, columns, BOTH), rules, 32, dtype, same=same)


def test_nested_sequences_and_lower_powers_of_the_width() -> None:
    """A standard network keeps its leading terms: biases are below those of the weights."""
    inner = Serial(layers=(HIDDEN, Erf()))
    model = Model(layers=(Repeat(layer=inner, times=3), Dense(width=1)), parameterization=Standard())
    fold, x = Fold(model.place((5,)), symbolic=True), inputs(torch.float64)
    chain = Chain.of(fold, x, None, PLENTY)
    assert chain is not None
    assert len(chain.steps) == 7
    rules = fold.block(x, None, fold.probe(x))
    kernels = chain.block(slice(0, 23), slice(0, 23), BOTH)
    torch.testing.assert_close(kernels["nngp"], rules.nngp.pair, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(kernels["ntk"], rules.ntk.pair, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    "layers",
    [
        (HIDDEN, Tanh(), Dense()),
        (Relu(), HIDDEN, Relu(), Dense()),
        (Dense(W_law=Uniform(half_width=1.0)), Relu(), Dense()),
        (Dense(W_law=Uniform(half_width=1.0)), Quadratic(), Dense()),
        (HIDDEN, Relu(), Dropout(keep_rate=0.5), HIDDEN, Relu(), Dense()),
        (HIDDEN, Parallel(branches=(Identity(), Serial(layers=(Relu(), HIDDEN)))), Dense()),
    ],
    ids=["numeric", "on the inputs", "uniform", "cumulants", "dropout", "branches"],
)
def test_other_networks_are_left_to_their_rules(layers: tuple[AnyLayer, ...]) -> None:
    assert Chain.of(placed(*layers), inputs(torch.float64), None, PLENTY) is None


FILTER: dict[str, Any] = {"filter_shape": (3, 2), "W_std": 1.2, "b_std": 0.3}
PATTERN = tuple(tuple(float((7 * i + j) % 5 - 2) for j in range(20)) for i in range(20))
SPATIAL: dict[str, tuple[AnyLayer, ...]] = {
    "flatten": (Conv(**FILTER, padding="SAME"), Relu(), Conv(**FILTER), Erf(), Flatten(), HIDDEN),
    "around, strides": (Conv(**FILTER, padding="CIRCULAR", strides=(2, 1)), Gelu(), Flatten(), HIDDEN),
    "average": (Conv(**FILTER, padding="SAME"), Relu(), GlobalAvgPool(), HIDDEN, Relu(), HIDDEN),
    "pooled, then flattened": (
        Conv(**FILTER),
        Relu(),
        AvgPool(window_shape=(2, 2)),
        Conv(**FILTER, padding="SAME"),
        Relu(),
        Flatten(),
        HIDDEN,
    ),
    "outputs with positions": (Conv(**FILTER), Relu(), SumPool(window_shape=(2, 1)), HIDDEN),
    "dense at each position": (HIDDEN, Sign(), HIDDEN, Relu(), Flatten(), HIDDEN),
    "transposed and local": (ConvTranspose(**FILTER), Relu(), ConvLocal(**FILTER), Relu(), Flatten(), HIDDEN),
    "graph": (HIDDEN, Relu(), Aggregate(pattern=PATTERN), HIDDEN, Relu()),
}


@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks with positions take the same steps, whatever they keep of the covariance of positions."""
    monkeypatch.setattr(module, "STRIP", 7 * 20)  # some of a row at a time, or of a few rows
    monkeypatch.setattr(module, "ENTRIES", 3 * 20)
    fold = placed(*SPATIAL[name], shape=(5, 4, 3))
    x = torch.randn(11, 5, 4, 3, dtype=dtype, generator=torch.Generator().manual_seed(2))
    x[3], x[4] = x[1], 0.0
    probe = fold.probe(x)
    for other, columns in ((None, slice(2, 10)), (None, slice(10, 11)), (x.flip(0)[:6], slice(1, 6))):
        chain = Chain.of(fold, x, other, PLENTY)
        assert chain is not None
        rows = slice(2, 10)
        same = other is None and rows == columns
        rules = fold.block(x[rows], None if same else (x if other is None else other)[columns], probe)
        check(chain.block(rows, columns, BOTH), rules, 64, dtype, same=same)


@pytest.mark.parametrize(
    "layers",
    [
        (Conv(**FILTER), LayerNorm(), Relu(), Conv(**FILTER), Relu(), Flatten(), HIDDEN),
        (AvgPool(window_shape=(2, 2)), Conv(**FILTER), Relu(), Flatten(), HIDDEN),
        (Conv(**FILTER), Relu(), Parallel(branches=(Identity(), Conv(**FILTER, padding="SAME"))), Flatten()),
    ],
    ids=["norm", "on the inputs", "branches"],
)
def test_other_images_are_left_to_their_rules(layers: tuple[AnyLayer, ...]) -> None:
    x = torch.ones(2, 9, 8, 3, dtype=torch.float64)
    assert Chain.of(placed(*layers, shape=(9, 8, 3)), x, None, PLENTY) is None


def test_steps_that_take_too_much_are_not_kept() -> None:
    fold, x = placed(HIDDEN, Relu(), HIDDEN), inputs(torch.float64)
    kept = 3 * 8 * len(x)  # a variance, a value and a slope of each input
    assert Chain.of(fold, x, None, kept) is not None
    assert Chain.of(fold, x, None, kept - 1) is None


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


@pytest.mark.parametrize("readout", [Flatten(), GlobalAvgPool()], ids=lambda each: each.kind)
def test_images_through_the_front_door(readout: AnyLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(90, 6, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    model = Model(layers=(Conv(**FILTER, padding="SAME"), Relu(), readout, Dense(width=1)))
    played = infinite_kernel(model, x)
    monkeypatch.setattr(Chain, "of", lambda *_: None)
    folded = infinite_kernel(model, x)
    for name in BOTH:
        torch.testing.assert_close(played.kernels[name], folded.kernels[name], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("layers", "apart"),
    [
        ((HIDDEN, Relu(), HIDDEN, Sign(), HIDDEN), True),
        ((HIDDEN, Erf(), HIDDEN, Gelu(), HIDDEN), False),  # without a kink
        ((HIDDEN, Relu(), HIDDEN, ExpNormalized(), HIDDEN, Relu(), HIDDEN), False),  # without a function
        ((Dense(W_law=Uniform(half_width=1.0)), Erf(), HIDDEN, Relu(), HIDDEN), False),
    ],
    ids=["kinks", "smooth", "no function", "no closed form"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_pass_that_probes_the_rules_finds_the_same(
    layers: tuple[AnyLayer, ...], apart: bool, dtype: torch.dtype
) -> None:
    """A pass over a few rows with themselves, one that computes all pairs, one that notes steps."""
    fold, x = placed(*layers), inputs(dtype)[:7]
    few = fold.probe(x)
    assert (few.nearness > 0.0) == apart
    _, of_all = fold.at_once(x, None)
    chain = Chain.of(fold, x, None, PLENTY)
    for probe in (of_all, *(() if chain is None else (chain.probe,))):
        assert probe.nearness == few.nearness
        assert probe.error == pytest.approx(few.error, rel=0.2, abs=64 * torch.finfo(dtype).eps)


def test_an_error_in_one_part_of_the_inputs_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a saturated function is that of the inputs which saturate it."""
    fold = placed(HIDDEN, Erf(), HIDDEN, Relu(), HIDDEN)
    small = inputs(torch.float64)[:6]
    x = torch.cat((small, 1e3 * small))
    whole = Chain.of(fold, x, None, PLENTY)
    monkeypatch.setattr(module, "ENTRIES", 6)
    halves = Chain.of(fold, x, None, PLENTY)
    alone = [Chain.of(fold, each, None, PLENTY) for each in (small, 1e3 * small)]
    assert whole is not None
    assert halves is not None
    assert halves.probe.error == max(each.probe.error for each in alone if each is not None)
    assert halves.probe.error >= whole.probe.error > 0.0
