"""Layer norm, root-mean-square norm and dropout: their rules against loops, and against finite networks."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ntkengine import SpecError, UnsupportedError, empirical_ntk, infinite_kernel
from tests.cases import inputs, model
from tests.compare import assert_close

RELU, ERF = {"kind": "relu"}, {"kind": "erf"}
LAYER, RMS = {"kind": "layer_norm"}, {"kind": "rms_norm"}
READOUT = {"kind": "dense", "width": 2, "b_std": 0.1}


def dense(width: int | None = None, **fields: Any) -> dict[str, Any]:
    return {"kind": "dense", "width": width, "W_std": 1.2, "b_std": 0.3} | fields


def dropout(keep_rate: float, **fields: Any) -> dict[str, Any]:
    return {"kind": "dropout", "keep_rate": keep_rate} | fields


def random(*shape: int, seed: int = 0) -> Tensor:
    return inputs(math.prod(shape), 1, seed=seed).reshape(shape)


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("axis", [-1, 3, [1, -1], [2, 3], [1, 2, 3]], ids=str)
def test_norm_rule(kind: str, axis: int | list[int]) -> None:
    norm = {"kind": kind, "axis": axis, "eps": 0.2}
    front = [dense(), ERF, dense()] if kind == "layer_norm" else [dense(), RELU]
    x1, x2 = random(2, 3, 2, 4), random(3, 3, 2, 4, seed=1)
    averaged = {axis} if isinstance(axis, int) else set(axis)
    for other in (None, x2):
        before, after = (infinite_kernel(model(each), x1, other) for each in (front, [*front, norm]))
        own = [infinite_kernel(model(front), x).nngp for x in (x1, x1 if other is None else x2)]

        def square(which: int, i: int, h: int, w: int, own: list[Tensor] = own) -> float:
            rows = range(3) if 1 in averaged else [h]
            columns = range(2) if 2 in averaged else [w]
            return float(np.mean([own[which][i, i, a, a, b, b] for a, b in product(rows, columns)])) + 0.2

        for name in ("nngp", "ntk"):
            want = getattr(before, name).clone()
            for i, j, h, g, w, v in np.ndindex(*want.shape):
                want[i, j, h, g, w, v] /= math.sqrt(square(0, i, h, w) * square(1, j, g, v))
            assert_close(getattr(after, name), want)


def test_finite_norms() -> None:
    """Against torch's."""
    x = random(3, 4, 2, 5)
    weights = {"layers.1.W": np.eye(5)}
    for shape, axis in (((5,), -1), ((2, 5), [-2, -1]), ((4, 2, 5), [1, 2, 3])):
        for norm, want in (
            (LAYER, functional.layer_norm(x, shape, eps=0.1)),
            (RMS, functional.rms_norm(x, shape, eps=0.1)),
        ):
            layers = [norm | {"axis": axis, "eps": 0.1}, {"kind": "dense", "width": 5, "W_std": 5**0.5}]
            assert_close(model(layers).network((4, 2, 5), weights=weights)(x), want)


@pytest.mark.parametrize("norm", [LAYER, RMS], ids=["layer_norm", "rms_norm"])
def test_norms_of_the_inputs_are_part_of_them(norm: dict[str, Any]) -> None:
    x = random(4, 5)
    net = [dense(), RELU, READOUT]
    centred = x - x.mean(1, keepdim=True) if norm is LAYER else x
    normal = centred / (centred.square().mean(1, keepdim=True) + 1e-12).sqrt()
    assert_close(infinite_kernel(model([norm, *net]), x).ntk, infinite_kernel(model(net), normal).ntk)


@pytest.mark.parametrize(
    "layers",
    [
        [LAYER, RELU, dense(256), LAYER, ERF],
        [RELU, RMS, dense(256), ERF],
    ],
    ids=["layer_norm", "rms_norm"],
)
def test_wide_networks_approach_the_rule(layers: list[Any]) -> None:
    """The mean over seeds of the empirical kernel, within 4 standard errors and the bias of order 1/N."""
    width, seeds = 256, 24
    spec = model([dense(width), *layers, READOUT])
    x = inputs(3)
    limit = infinite_kernel(spec, x).ntk
    drawn = torch.stack([empirical_ntk(spec.network((4,), seed=s), x) for s in range(seeds)])
    error = (drawn.mean(0) - limit).abs()
    assert bool((error <= 4.0 * drawn.std(0) / seeds**0.5 + 4.0 / width * limit.abs().max()).all())


def test_cumulants_are_scaled() -> None:
    """A quadratic of normalised features: the divisors to the fourth power come out of the expectation."""
    first, norm = dense(W_law={"kind": "uniform", "half_width": 1.0}), LAYER | {"eps": 1e-30}
    tail = [{"kind": "quadratic"}, {"kind": "dense", "width": 1}]
    x1, x2 = inputs(3, 2), inputs(2, 2, seed=1)
    plain, normed = (
        infinite_kernel(model(each), x1, x2).nngp for each in ([first, *tail], [first, norm, *tail])
    )
    rows, columns = (infinite_kernel(model([first]), x).nngp.diagonal() for x in (x1, x2))
    assert_close(normed, plain / (rows[:, None] * columns[None]))


def test_pairs_that_nearly_coincide_keep_their_digits() -> None:
    """Without a bias, the first norm makes the lengths of inputs 1: so does normalising them before."""
    first, tail = dense(b_std=None), [RELU, dense(), LAYER, RELU, READOUT]
    base = inputs(1, 6)
    x1 = base + torch.tensor([[1e-5], [1e-7], [1e-9]], dtype=torch.float64) * inputs(3, 6, seed=2)
    x2 = 3.0 * base
    unit1, unit2 = (x / x.square().mean(1, keepdim=True).sqrt() / 1.2 for x in (x1, x2))
    got = infinite_kernel(model([first, LAYER, *tail]), x1, x2).ntk
    assert_close(got, infinite_kernel(model([first, *tail]), unit1, unit2).ntk)
    distances = got.new_tensor([infinite_kernel(model([first, LAYER, *tail]), base).ntk.item()]) - got
    assert distances[0, 0] > distances[1, 0] > distances[2, 0] > 0


def test_dropout_rule() -> None:
    """Coincident entries, of the same sample at the same position, are divided by the rate; others stay."""
    front = [dense(), ERF]
    x1, x2 = random(3, 4, 2), random(2, 4, 2, seed=1)
    for other in (None, x2):
        before, after = (infinite_kernel(model(each), x1, other) for each in (front, [*front, dropout(0.4)]))
        for name in ("nngp", "ntk"):
            want = getattr(before, name).clone()
            for i, p in product(range(3 if other is None else 0), range(4)):
                want[i, i, p, p] /= 0.4
            assert_close(getattr(after, name), want)


def test_variances_after_dropout_reach_the_next_activation() -> None:
    """Pairs of different samples depend on it through them: erf in closed form."""
    layers = [dense(b_std=None), ERF, dropout(0.6), dense(b_std=None), ERF]
    x1, x2 = inputs(3), inputs(2, seed=1)
    front = model(layers[:2])
    pair = 1.44 * infinite_kernel(front, x1, x2).nngp
    first, second = (1.44 * infinite_kernel(front, x).nngp.diagonal() / 0.6 for x in (x1, x2))
    want = torch.asin(2 * pair / torch.sqrt((1 + 2 * first[:, None]) * (1 + 2 * second))) * 2 / math.pi
    assert_close(infinite_kernel(model(layers), x1, x2).nngp, want)


def test_variances_after_dropout_are_pooled() -> None:
    """Positions of a sample have masks of their own: erf of a mean over positions, in closed form."""
    mean = {"kind": "aggregate", "pattern": np.full((3, 3), 1 / 3)}
    layers = [dense(b_std=None), ERF, dropout(0.6), mean, dense(b_std=None), ERF]
    front = model(layers[:2])
    x1, x2 = random(2, 3, 4), random(3, 3, 4, seed=1)
    pair = 1.44 * infinite_kernel(front, x1, x2).nngp.mean((2, 3))
    variances = []
    for x in (x1, x2):
        own = infinite_kernel(front, x).nngp.diagonal(dim1=0, dim2=1).permute(2, 0, 1)
        variances.append(1.44 * (own + own * torch.eye(3) * (1 / 0.6 - 1)).mean((1, 2)))
    lengths = torch.sqrt((1 + 2 * variances[0][:, None]) * (1 + 2 * variances[1]))
    want = torch.asin(2 * pair / lengths) * 2 / math.pi
    got = infinite_kernel(model(layers), x1, x2).nngp
    assert_close(got, want[:, :, None, None].expand_as(got))


def test_near_pairs_after_dropout() -> None:
    """They are no longer near, for each has a mask of its own: relu in closed form."""
    layers = [dense(b_std=None), RELU, dropout(0.6), dense(b_std=None), RELU]
    x1 = inputs(3)
    x2 = x1[:2] + 1e-7 * inputs(2, seed=2)
    front = model(layers[:2])
    pair = 1.44 * infinite_kernel(front, x1, x2).nngp
    first, second = (1.44 * infinite_kernel(front, x).nngp.diagonal() / 0.6 for x in (x1, x2))
    lengths = torch.sqrt(first[:, None] * second)
    angle = torch.acos(pair / lengths)
    want = lengths * (angle.sin() + (math.pi - angle) * angle.cos()) / (2 * math.pi)
    assert_close(infinite_kernel(model(layers), x1, x2).nngp, want)


def test_dropout_in_blocks() -> None:
    """A kernel of all rows is that of some, and of these with the others."""
    spec = model([dense(), RELU, dropout(0.7), dense(), RELU, dropout(0.9), READOUT])
    x = torch.cat((inputs(4), inputs(1), inputs(2) * (1 + 1e-9)))
    whole = infinite_kernel(spec, x).ntk
    assert_close(whole[:4, :4], infinite_kernel(spec, x[:4]).ntk)
    assert_close(whole[:4, 4:], infinite_kernel(spec, x[:4], x[4:]).ntk)


def test_wide_networks_with_dropout_approach_the_rule() -> None:
    """One pass through the network gives each sample a mask, which it shares with itself alone."""
    width, seeds = 256, 40
    spec = model([dense(width), RELU, dropout(0.7), dense(width), ERF, dropout(0.6), READOUT | {"width": 1}])
    x = inputs(3)
    limit = infinite_kernel(spec, x).ntk
    torch.manual_seed(0)

    def drawn(seed: int) -> Tensor:
        network = spec.network((4,), seed=seed)
        tensors = list(network.parameters())
        y = network(x)[:, 0]
        rows = [torch.autograd.grad(each, tensors, retain_graph=True) for each in y]
        jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        return jacobian @ jacobian.T

    kernels = torch.stack([drawn(seed) for seed in range(seeds)])
    error = (kernels.mean(0) - limit).abs()
    assert bool((error <= 4.0 * kernels.std(0) / seeds**0.5 + 4.0 / width * limit.abs().max()).all())


def test_dropout_that_keeps_everything() -> None:
    x = inputs(3)
    plain = model([dense(5), RELU, READOUT])
    for layer in (dropout(0.5, mode="test"), dropout(1.0)):
        same = model([layer, dense(5), layer, RELU, layer, READOUT])
        assert_close(infinite_kernel(same, x).ntk, infinite_kernel(plain, x).ntk)
        assert torch.equal(same.network((4,))(x).isnan(), torch.zeros(3, 2, dtype=torch.bool))
    network = model([dropout(0.5, mode="test"), dense(5)]).network((4,), seed=1)
    assert_close(
        network(x), x @ network.state_dict()["layers.1.W"] * 0.6 + 0.3 * network.state_dict()["layers.1.b"]
    )


def test_dropped_features() -> None:
    """Each is 0 or divided by the rate, independently: counts within 4 standard deviations."""
    weights = {"layers.1.W": np.eye(1)}
    network = model([dropout(0.25), {"kind": "dense", "width": 1}]).network((1,), weights=weights)
    torch.manual_seed(1)
    y = network(torch.ones(20_000, 1, dtype=torch.float64))
    assert sorted(y.unique().tolist()) == [0.0, 4.0]
    assert abs(float((y > 0).double().mean()) - 0.25) <= 4.0 * math.sqrt(0.25 * 0.75 / 20_000)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([dense(), RELU, LAYER, READOUT], r"layers\.2: .*mean may not be 0"),
        ([dense(), LAYER | {"axis": 1}, READOUT], r"layers\.1: .*without the channels"),
        ([dropout(0.5), dense()], r"layers\.0: dropout of the inputs"),
        ([RELU, dropout(0.5), dense()], r"layers\.1: dropout of the inputs"),
        ([dense(), dropout(0.5), RELU, dense()], r"layers\.2: .*not Gaussian"),
    ],
)
def test_refusals(layers: list[Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message) as caught:
        infinite_kernel(model(layers), random(2, 3, 4))
    assert caught.value.pointer == f"/layers/{message[8]}"
    assert caught.value.hint


@pytest.mark.parametrize("norm", [LAYER, RMS], ids=lambda norm: str(norm["kind"]))
def test_norms_behind_laws_that_are_not_normal(norm: dict[str, Any]) -> None:
    """The weighted sums themselves, which quadrature takes, are not those of the normalised features."""
    first = dense(W_law={"kind": "uniform", "half_width": 1.0})
    with pytest.raises(UnsupportedError, match=r"layers\.2: tanh"):
        infinite_kernel(model([first, norm, {"kind": "tanh"}, READOUT]), random(2, 4))


@pytest.mark.parametrize("axis", [0, 3, -3, [1, 1], [1, -2], []], ids=str)
def test_axes_that_do_not_fit(axis: int | list[int]) -> None:
    with pytest.raises(SpecError, match=r"layers\.0: axis") as caught:
        model([LAYER | {"axis": axis}, dense(3)]).place((5, 4))
    assert caught.value.pointer == "/layers/0/axis"
