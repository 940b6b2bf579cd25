"""Inputs of different lengths: what a network makes of a padded input is what it makes of the input alone.

Between inputs of different lengths kernels are compared with gradients of the networks without padding, with
a recursion in loops, and with values of neural-tangents.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from ntkengine import (
    EngineError,
    KernelSpec,
    Model,
    SpecError,
    UnsupportedError,
    compute_kernel,
    empirical_nngp,
    empirical_ntk,
    infinite_kernel,
)
from ntkengine.spec import from_jsonable
from ntkengine.weights import expected_shapes
from tests.cases import ERF, READOUT, RELU, UNIFORM, attention, branch, conv, dense, inputs, model
from tests.compare import assert_close

Array = NDArray[np.float64]
Spec = dict[str, Any]

CONSTANT = -9.0
MASK = {"kind": "mask", "constant": CONSTANT}
GAP, SUM = {"kind": "global_avg_pool"}, {"kind": "global_sum_pool"}
NORM = {"kind": "layer_norm"}
HEAD = attention(4, n_heads=2)


def pool(kind: str, *window: int, **fields: Any) -> Spec:
    return {"kind": kind, "window_shape": list(window)} | fields


# layers on sequences of two channels, of lengths 3 to 6
SEQUENCES: dict[str, list[Spec]] = {
    "dense at each position": [dense(4), RELU, dense(2)],
    "conv SAME": [conv(4, 3, padding="SAME"), RELU, conv(4, 2, padding="SAME"), RELU, GAP, READOUT],
    "conv VALID, strides": [conv(4, 2, strides=[2]), ERF, dense(3), ERF, SUM, dense(2)],
    "dilation, groups": [
        conv(4, 2, padding="SAME"),
        RELU,
        conv(4, 2, dilation=[2], groups=2),
        RELU,
        GAP,
        READOUT,
    ],
    "conv without output pooling": [conv(3, 2), RELU, conv(2, 2, padding="SAME")],
    "circular of one tap": [conv(4, 1, padding="CIRCULAR"), RELU, GAP, READOUT],
    "conv_transpose SAME": [
        conv(4, 3, kind="conv_transpose", strides=[2], padding="SAME"),
        RELU,
        GAP,
        READOUT,
    ],
    "conv_transpose VALID": [conv(4, 2, kind="conv_transpose", strides=[3]), RELU, GAP, READOUT],
    "conv_local": [conv(4, 2, kind="conv_local"), RELU, SUM, READOUT],
    "avg_pool": [conv(4, 2), RELU, pool("avg_pool", 2, padding="SAME"), dense(3), ERF, GAP, READOUT],
    "avg_pool, edges": [
        dense(4),
        RELU,
        pool("avg_pool", 3, padding="SAME", normalize_edges=True),
        dense(4),
        RELU,
        GAP,
        READOUT,
    ],
    "sum_pool, strides": [dense(4), RELU, pool("sum_pool", 2, strides=[2]), dense(3), RELU, SUM, READOUT],
    "pooling of inputs": [pool("avg_pool", 2), GAP, dense(4), RELU, READOUT],
    "activation of inputs": [{"kind": "cos", "b": 0.3}, conv(3, 3, padding="SAME"), RELU, GAP, READOUT],
    "layer_norm": [dense(4), NORM, RELU, dense(3), RELU, GAP, READOUT],
    "layer_norm over positions": [dense(4), NORM | {"axis": [1, 2]}, RELU, GAP, READOUT],
    "rms_norm over positions": [
        dense(4),
        RELU,
        {"kind": "rms_norm", "axis": [1, 2]},
        conv(3, 3, padding="SAME"),
        RELU,
        GAP,
        READOUT,
    ],
    "attention softmax": [dense(4), HEAD, RELU, GAP, READOUT],
    "attention, causal": [HEAD | {"causal": True, "b_std": 0.3}, RELU, GAP, READOUT],
    "attention relu, embeddings": [
        HEAD | {"attention_mechanism": "relu", "pos_emb_type": "concat", "val_pos_emb": True},
        RELU,
        GAP,
        READOUT,
    ],
    "attention of sums with embeddings": [HEAD | {"pos_emb_type": "sum"}, RELU, SUM, READOUT],
    "attention of random scores": [
        HEAD | {"linear_scaling": False, "attention_mechanism": "identity", "pos_emb_type": "sum"},
        RELU,
        GAP,
        READOUT,
    ],
    "residual": [
        dense(4),
        {"kind": "parallel", "branches": [{"kind": "identity"}, branch(4), conv(4, 3, padding="SAME")]},
        RELU,
        GAP,
        READOUT,
    ],
    "concat, product, repeat": [
        {
            "kind": "parallel",
            "merge": "product",
            "branches": [
                {"kind": "parallel", "merge": "concat", "branches": [dense(2), branch(2)]},
                branch(4),
            ],
        },
        {"kind": "repeat", "times": 2, "layer": {"kind": "serial", "layers": [dense(4), ERF]}},
        GAP,
        READOUT,
    ],
    "laws that are not normal": [
        conv(4, 3, padding="SAME", W_law=UNIFORM, b_law=UNIFORM),
        {"kind": "quadratic"},
        GAP,
        READOUT,
    ],
    "dropout in test mode": [
        dense(4),
        RELU,
        {"kind": "dropout", "keep_rate": 0.5, "mode": "test"},
        GAP,
        READOUT,
    ],
}
FINITE_ONLY = {
    "max_pool": [dense(3), pool("max_pool", 3, padding="SAME"), GAP, READOUT],
    "usual attention": [HEAD | {"linear_scaling": False}, GAP, READOUT],
}
IMAGES = {
    "conv 2d": [conv(4, 2, 3, padding="SAME"), RELU, pool("avg_pool", 2, 2), dense(3), RELU, GAP, READOUT],
    "norm over one axis": [dense(4), NORM | {"axis": [2, 3]}, RELU, GAP, READOUT],
    "attention on images": [HEAD, RELU, GAP, READOUT],
}

Sizes = tuple[int, ...]
LENGTHS: list[Sizes] = [(6,), (3,), (4,), (3,), (5,)]
OTHERS: list[Sizes] = [(4,), (6,), (3,)]
IMAGE_SIZES: list[Sizes] = [(3, 4), (2, 3), (3, 2), (2, 3)]


def alone(sizes: list[Sizes], *, seed: int = 0) -> list[Tensor]:
    """An input (1, *sizes, 2) of each size."""
    return [
        inputs(math.prod(each), 2, seed=seed + index).reshape(1, *each, 2) for index, each in enumerate(sizes)
    ]


def together(xs: list[Tensor], more: int = 0) -> Tensor:
    """The inputs in one array, padded to the largest sizes, and by some more positions."""
    sizes = [max(x.shape[axis] for x in xs) + more for axis in range(1, xs[0].ndim - 1)]
    result = torch.full((len(xs), *sizes, 2), CONSTANT, dtype=torch.float64)
    for row, x in zip(result, xs, strict=True):
        row[tuple(slice(0, size) for size in x.shape[1:])] = x[0]
    return result


def at_corner(part: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An array of that shape, 0 but for a part in its corner."""
    result = part.new_zeros(shape)
    result[tuple(slice(0, size) for size in part.shape)] = part
    return result


CASES = [
    *(pytest.param(layers, LENGTHS, id=name) for name, layers in SEQUENCES.items()),
    *(pytest.param(layers, IMAGE_SIZES, id=name) for name, layers in IMAGES.items()),
]
FINITE_CASES = [*CASES, *(pytest.param(layers, LENGTHS, id=name) for name, layers in FINITE_ONLY.items())]


# --- infinite width


@pytest.mark.parametrize(("layers", "sizes"), CASES)
def test_kernels_of_inputs_of_one_length(layers: list[Spec], sizes: list[Sizes]) -> None:
    """Those without padding, within a batch and between two, and 0 behind the end."""
    xs, others = alone(sizes), alone(sizes[::-1], seed=50)
    masked, plain = model([MASK, *layers]), model(layers)
    square = infinite_kernel(masked, together(xs, 1))
    between = infinite_kernel(masked, together(xs, 1), together(others, 1))
    for (i, a), (j, b) in itertools.product(enumerate(xs), enumerate(others)):
        if a.shape == b.shape:
            want = infinite_kernel(plain, a, b)
            for name in ("nngp", "ntk"):
                got = getattr(between, name)[i, j]
                assert_close(got, at_corner(getattr(want, name)[0, 0], got.shape))
    for i, j in itertools.product(range(len(xs)), repeat=2):
        if xs[i].shape == xs[j].shape:
            want = infinite_kernel(plain, torch.cat((xs[i], xs[j])))
            for name in ("nngp", "ntk"):
                got = getattr(square, name)[i, j]
                assert_close(got, at_corner(getattr(want, name)[0, int(i != j)], got.shape))


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(SEQUENCES)),
    lengths=st.lists(st.integers(3, 6), min_size=2, max_size=5),
    more=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
def test_padding_and_order_do_not_matter(name: str, lengths: list[int], more: int, seed: int) -> None:
    spec = model([MASK, *SEQUENCES[name]])
    xs = alone([(length,) for length in lengths], seed=seed)
    kernel = infinite_kernel(spec, together(xs)).ntk
    assert torch.equal(kernel, kernel.transpose(0, 1).transpose(2, -1) if kernel.ndim == 4 else kernel.T)
    padded = infinite_kernel(spec, together(xs, more)).ntk
    assert_close(padded, at_corner(kernel, padded.shape), rtol=1e-11)
    order = torch.randperm(len(xs), generator=torch.Generator().manual_seed(seed))
    assert_close(infinite_kernel(spec, together(xs)[order]).ntk, kernel[order][:, order], rtol=1e-11)
    assert_close(infinite_kernel(spec, together(xs)[:1], together(xs)[1:]).ntk, kernel[:1, 1:], rtol=1e-11)


# --- a recursion in loops, for two inputs of any lengths: covariances (p, q) of x1 and x2, of x1, of x2


def relu_dual(k: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """`E[s(z) s(z')]` and `E[s'(z) s'(z')]` of ReLU (Cho and Saul, 2009)."""
    norms = np.sqrt(np.outer(first, second))
    angle = np.arccos(np.clip(k / norms, -1.0, 1.0))
    value = norms * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return value, (np.pi - angle) / (2 * np.pi)


def softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Array = weights / weights.sum(axis=1, keepdims=True)
    return result


def convolved(k: Array, taps: int) -> Array:
    """Means over the taps of a filter of an odd size, with SAME padding."""
    padded = np.pad(k, taps // 2)
    shifted = [padded[t : t + k.shape[0], t : t + k.shape[1]] for t in range(taps)]
    result: Array = np.mean(shifted, axis=0)
    return result


def slow_kernel(x1: Array, x2: Array) -> float:
    """The NTK of conv(3, SAME), relu, attention, relu, global_avg_pool, dense; weights and biases of 1."""
    sets = [(a, b) for a, b in ((x1, x2), (x1, x1), (x2, x2))]
    ks = [convolved(a @ b.T / a.shape[1], 3) + 1.0 for a, b in sets]
    thetas = list(ks)

    def relu() -> None:
        variances = [np.diag(k).copy() for k in ks[1:]]
        rows = [(variances[0], variances[1]), (variances[0],) * 2, (variances[1],) * 2]
        for index, (first, second) in enumerate(rows):
            ks[index], slope = relu_dual(ks[index], first, second)
            thetas[index] = thetas[index] * slope

    relu()
    weights = [softmax(k) for k in ks[1:]]
    for index, (left, right) in enumerate(((0, 1), (0, 0), (1, 1))):
        a, b = weights[left], weights[right]
        value = a @ ks[index] @ b.T
        ks[index], thetas[index] = value + 1.0, a @ thetas[index] @ b.T + 2.0 * value + 1.0
    relu()
    return float(thetas[0].mean() + ks[0].mean())


def test_recursion_in_loops() -> None:
    first = conv(8, 3, padding="SAME", W_std=1.0, b_std=1.0)
    layers = [first, RELU, attention(8, b_std=1.0), RELU, GAP, READOUT]
    xs, others = alone(LENGTHS), alone(OTHERS, seed=50)
    got = infinite_kernel(model([MASK, *layers]), together(xs), together(others)).ntk
    want = [[slow_kernel(a[0].numpy(), b[0].numpy()) for b in others] for a in xs]
    assert_close(got, np.array(want))


# --- values of neural-tangents 0.6.5, float64, with mask_constant=-9.0: kernel_fn of stax.serial of these
# layers, on rounded sines. Its pooling with normalize_edges and its VALID convolutions depend on the padding:
# there, the value is that of its kernel of the second input alone.

PEER_LAYERS: dict[str, list[Spec]] = {
    "same": [
        conv(1, 3, padding="SAME", b_std=0.3),
        RELU,
        conv(1, 3, padding="SAME", W_std=1.1),
        ERF,
        GAP,
        READOUT,
    ],
    "attention": [dense(1), attention(1, n_heads=1, W_out_std=1.1, b_std=0.2), RELU, GAP, READOUT],
    "norm": [dense(1), NORM | {"axis": [1, 2]}, RELU, SUM, READOUT],
    "valid": [conv(1, 3, padding="SAME", b_std=0.3), RELU, conv(1, 2, W_std=1.1), ERF, GAP, READOUT],
    "edges": [
        conv(1, 3, padding="SAME", b_std=0.3),
        RELU,
        pool("avg_pool", 3, padding="SAME", normalize_edges=True),
        dense(1, W_std=1.0, b_std=None),
        ERF,
        GAP,
        READOUT,
    ],
}
PEER_NTK = {
    "same": [
        [0.35773979257436667, 0.30069600450340916, 0.31826285879997407],
        [0.30069600450340916, 0.3712426136970481, 0.28986237124619485],
        [0.3182628587999741, 0.28986237124619485, 0.41366343675677786],
    ],
    "attention": [
        [0.5962927104495739, 0.30256296492709867, 0.6050019735315025],
        [0.3025629649270987, 0.3677012558484066, 0.2862701302594795],
        [0.6050019735315025, 0.2862701302594795, 0.6883554857303924],
    ],
    "norm": [
        [15.467923234588751, 8.086657132661967, 8.002679518942868],
        [8.086657132661966, 5.610086930141293, 4.035188602546807],
        [8.002679518942868, 4.035188602546807, 4.424638258769411],
    ],
}
PEER_ALONE = {"valid": 0.5199845599717445, "edges": 0.41772731464432916}


def peer_inputs() -> Tensor:
    x = np.round(np.sin(1.0 + 0.7 * np.arange(36).reshape(3, 6, 2)), 2)
    for row, length in zip(x, (6, 4, 3), strict=True):
        row[length:] = CONSTANT
    return torch.from_numpy(x)


@pytest.mark.parametrize("name", PEER_LAYERS)
def test_neural_tangents(name: str) -> None:
    got = infinite_kernel(model([MASK, *PEER_LAYERS[name]]), peer_inputs()).ntk
    if name in PEER_NTK:
        assert_close(got, np.array(PEER_NTK[name]))
    else:
        assert_close(got[1, 1], np.array(PEER_ALONE[name]))


# --- finite networks


def cut_weights(weights: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The weights by the names that they have without the mask, those of positions up to an input's end."""
    result = {}
    for name, shape in shapes.items():
        first, index, *rest = name.split(".")
        whole = weights[".".join([first, str(int(index) + 1), *rest])]
        result[name] = whole[tuple(slice(0, size) for size in shape)]
    return result


def row_without_padding(
    layers: list[Spec], weights: dict[str, Tensor], x: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Outputs of the network for inputs of that length; their gradients by each tensor, in order."""
    plain, shape = model(layers), tuple(x.shape[1:])
    network = plain.network(shape, weights=cut_weights(weights, expected_shapes(plain.place(shape))))
    y = network(x)[0]
    tensors = list(network.parameters())
    rows = [torch.autograd.grad(v, tensors, retain_graph=True, materialize_grads=True) for v in y.flatten()]
    by_tensor = zip(*rows, strict=True)
    return y.detach(), [torch.stack(each).reshape(*y.shape, *each[0].shape) for each in by_tensor]


@pytest.mark.parametrize(("layers", "sizes"), FINITE_CASES)
def test_finite_networks(layers: list[Spec], sizes: list[Sizes]) -> None:
    """Outputs and kernels between inputs of all lengths, from gradients without padding, by each way."""
    xs = alone(sizes)
    x = together(xs, 1)
    network = model([MASK, *layers]).network(tuple(x.shape[1:]), seed=3)
    weights = {name: p.detach() for name, p in network.named_parameters()}
    y = network(x).detach()
    shapes = [tuple(p.shape) for p in network.parameters()]
    jacobians = []
    for row, each in zip(y, xs, strict=True):
        want, gradients = row_without_padding(layers, weights, each)
        assert_close(row, at_corner(want, row.shape))
        whole = [at_corner(g, (*row.shape, *s)) for g, s in zip(gradients, shapes, strict=True)]
        jacobians.append(torch.cat([g.reshape(row.numel(), -1) for g in whole], 1))
    J = torch.stack(jacobians)
    want = torch.einsum("iap,jbp->ijab", J, J)
    for implementation in ("jacobian_contraction", "structured_derivatives"):
        got = empirical_ntk(network, x, outputs="full", implementation=implementation)
        assert_close(got, want)
    rest = empirical_ntk(network, x[:1], x[1:], outputs="full")
    assert_close(rest, want[:1, 1:])
    flat = y.flatten(1)
    assert_close(empirical_nngp(network, x, outputs="full"), torch.einsum("ia,jb->ijab", flat, flat))


def test_twins_start_at_zero_and_float32_masks_too() -> None:
    """A constant that float32 does not hold exactly is found all the same."""
    x = together(alone(LENGTHS))
    layers = SEQUENCES["attention softmax"]
    centred = model([MASK, *layers], initial_function="centred").network((6, 2))
    assert not centred(x).any()
    single = x.where(x != CONSTANT, 0.1).float()
    network = model([MASK | {"constant": 0.1}, *layers]).network((6, 2), dtype=torch.float32)
    plain = model([MASK, *layers]).network((6, 2), dtype=torch.float32)
    assert_close(network(single), plain(x.float()))


@pytest.mark.parametrize("name", ["conv SAME", "avg_pool, edges"])
def test_padding_has_no_gradient(name: str) -> None:
    x = together(alone(LENGTHS), 2).requires_grad_()
    network = model([MASK, *SEQUENCES[name]]).network((8, 2))
    (gradient,) = torch.autograd.grad(network(x).square().sum(), x)
    assert bool((gradient[x == CONSTANT] == 0).all())
    assert bool((gradient[x != CONSTANT] != 0).any())


@pytest.mark.verify
def test_wide_networks_approach_the_rule() -> None:
    """Between different lengths too, as N^-1/2."""

    def layers(n: int) -> list[Spec]:
        norm = NORM | {"axis": [1, 2]}
        return [conv(n, 3, padding="SAME"), norm, RELU, attention(n), RELU, GAP, READOUT]

    x = together(alone([(5,), (3,)]), 1)
    limit = infinite_kernel(model([MASK, *layers(16)]), x).ntk
    widths, spread = [16, 32, 64, 128], []
    for n in widths:
        spec: Model = model([MASK, *layers(n)])
        kernels = torch.stack([empirical_ntk(spec.network((6, 2), seed=seed), x) for seed in range(200)])
        spread.append(float((kernels - limit).square().sum((1, 2)).mean().sqrt()))
    assert abs(np.polyfit(np.log(widths), np.log(spread), 1)[0] + 0.5) <= 0.1


# --- through the front door


def request(layers: list[Spec], x: Any, **fields: Any) -> Any:
    return compute_kernel(from_jsonable(KernelSpec, {"model": {"layers": layers}, "x1": x, **fields}))


def test_json() -> None:
    """Each kind of kernel."""
    layers = [MASK, dense(64), RELU, GAP, READOUT]
    padded = [[[1.0], [2.0], [-9.0]], [[0.5], [-9.0], [-9.0]]]
    infinite = request(layers, padded).kernels["ntk"]
    assert_close(infinite[:1, :1], request(layers[1:], [[[1.0], [2.0]]]).kernels["ntk"])
    of = {"kind": "monte_carlo", "rtol": 0.01, "max_draws": 300}
    sampled = request(layers, padded, of=of)
    assert np.abs(sampled.kernels["ntk"] - infinite).max() < 0.1 * infinite.max()
    of = {"kind": "empirical", "seed": 1}
    finite = request(layers, padded, x2=[[[3.0], [-9.0], [-9.0]]], of=of)
    assert finite.kernels["ntk"].shape == (2, 1)


VALID = conv(2, 3)
ONE = [[[1.0], [2.0], [3.0]]]


@pytest.mark.parametrize(
    ("layers", "shape", "message", "pointer"),
    [
        ([dense(2), MASK], (5, 2), "layers.1: a mask is the first layer", "/layers/1"),
        ([MASK, dense(2)], (5,), "these are .n, 5.", "/layers/0"),
        ([MASK, dense(2), {"kind": "flatten"}], (5, 2), "layers.2.* a shorter one has fewer", "/layers/2"),
        (
            [MASK, dense(2), {"kind": "aggregate", "pattern": np.eye(5).tolist()}],
            (5, 2),
            "a graph with all of its nodes",
            "/layers/2",
        ),
        ([MASK, conv(2, 3, padding="CIRCULAR")], (5, 2), "layers.1: its padding", "/layers/1/padding"),
        (
            [MASK, conv(2, 3, padding="SAME", strides=[2])],
            (5, 2),
            "padding depends on the length",
            "/layers/1/padding",
        ),
        (
            [MASK, pool("avg_pool", 3, strides=[2], padding="SAME")],
            (5, 2),
            "padding depends",
            "/layers/1/padding",
        ),
        (
            [
                MASK,
                {
                    "kind": "parallel",
                    "branches": [conv(2, 2, strides=[2]), conv(2, 2, strides=[2], padding="SAME")],
                },
            ],
            (4, 2),
            "layers.1: the branches end with different lengths",
            "/layers/1",
        ),
    ],
)
def test_misplaced(layers: list[Spec], shape: tuple[int, ...], message: str, pointer: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        model([*layers, dense(1)]).place(shape)
    assert isinstance(caught.value, SpecError | UnsupportedError)
    assert caught.value.pointer == pointer


def test_padding_that_suits_all_lengths_is_taken() -> None:
    """After a stride of 2 over lengths that are even, all of them, SAME padding is alike."""
    layers = [
        conv(2, 2, kind="conv_transpose", strides=[2], padding="SAME"),
        conv(2, 3, padding="SAME", strides=[2]),
    ]
    site = model([MASK, *layers, dense(1)]).place((4, 2))
    assert site.out_lengths is not None
    assert site.out_lengths.tables == ((0, 1, 2, 3, 4),)


@pytest.mark.parametrize("kind", ["infinite", "empirical", "monte_carlo"])
@pytest.mark.parametrize(
    ("x", "message", "pointer"),
    [
        ([[[-9.0], [-9.0], [-9.0]]], "or holds nothing else", "/model/layers/0"),
        ([[[-9.0], [1.0], [2.0]]], "elsewhere than at the end", "/model/layers/0"),
        ([[[1.0], [-9.0], [2.0]]], "elsewhere than at the end", "/model/layers/0"),
        ([[[1.0], [2.0], [-9.0]]], "layers.1: an input of length 2 is too short", "/model/layers/1"),
    ],
)
def test_bad_inputs(x: Any, message: str, pointer: str, kind: str) -> None:
    for fields in ({"x1": x}, {"x1": ONE, "x2": x}):
        spec = {"model": {"layers": [MASK, VALID, RELU, GAP, READOUT]}, "of": {"kind": kind}, **fields}
        with pytest.raises(SpecError, match=message) as caught:
            compute_kernel(from_jsonable(KernelSpec, spec))
        assert caught.value.pointer == pointer


def test_nothing_comes_of_a_bad_input_where_nobody_can_look() -> None:
    """Under vmap an input cannot be refused: its numbers are NaN, those of others stay."""
    network = model([MASK, VALID, RELU, SUM, dense(2, b_std=0.1)]).network((3, 1))
    x = torch.tensor([[[1.0], [2.0], [3.0]], [[1.0], [2.0], [-9.0]]], dtype=torch.float64)
    found = torch.func.vmap(lambda row: network(row[None])[0])(x)
    assert found.isnan().all(1).tolist() == [False, True]
    kernel = empirical_ntk(network, x, implementation="jacobian_contraction")
    assert kernel.isnan().tolist() == [[False, True], [True, True]]
    with pytest.raises(SpecError, match="too short"):
        network(x)
