"""Convolutions, pooling and flattening: windows, finite maps and rules against loops over positions, and
against wide networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from ntkengine import SpecError, UnsupportedError, empirical_ntk, infinite_kernel
from ntkengine.infinite.fold import Fold
from ntkengine.layers.windows import Axis, moving, patches, pooled_sum, shifted_mean, transposed, window_sum
from ntkengine.positions import Extent, Needs
from ntkengine.state import KernelState
from tests.cases import UNIFORM, inputs, model
from tests.compare import assert_close

Array = NDArray[np.float64]
Spec = dict[str, Any]

RELU, ERF, GAP, FLAT = {"kind": "relu"}, {"kind": "erf"}, {"kind": "global_avg_pool"}, {"kind": "flatten"}
READOUT = {"kind": "dense", "width": 1, "b_std": 0.1}


def conv(*filter_shape: int, width: int | None = 4, **fields: Any) -> Spec:
    """A convolution, or another layer of that form by its `kind`."""
    return {"kind": "conv", "filter_shape": filter_shape, "width": width, "W_std": 1.3, "b_std": 0.2} | fields


def pool(kind: str, *window_shape: int, **fields: Any) -> Spec:
    return {"kind": kind, "window_shape": window_shape} | fields


def images(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal inputs (n, *shape)."""
    return inputs(n, math.prod(shape), seed=seed).reshape(n, *shape)


# --- what a window reads, in words of its own: one output and one tap at a time


def steps_of(layer: Spec, axis: int) -> tuple[int, int]:
    """The stride and the dilation on an axis."""
    stride, dilation = (int((layer.get(name) or (1,) * 3)[axis]) for name in ("strides", "dilation"))
    return stride, dilation


def entry_read(layer: Spec, axis: int, size: int, output: int, tap: int) -> int | None:
    """The entry of an axis that a tap of an output reads; None is padding."""
    taps = (layer.get("filter_shape") or layer["window_shape"])[axis]
    stride, dilation = steps_of(layer, axis)
    padding = layer.get("padding", "VALID")
    if layer["kind"] == "conv_transpose":
        place = output + tap - jax_places_before(taps, stride, padding)
        entry, rest = divmod(place, stride)
        return entry if rest == 0 and 0 <= entry < size else None
    place = output * stride + tap * dilation
    if padding == "VALID":
        return place
    reach = (-(-size // stride) - 1) * stride + dilation * (taps - 1) + 1
    place -= max(reach - size, 0) // 2
    if padding == "CIRCULAR":
        return int(place % size)
    return place if 0 <= place < size else None


def jax_places_before(taps: int, stride: int, padding: str) -> int:
    """As the source of jax.lax.conv_transpose says."""
    if padding == "VALID" or stride > taps - 1:
        return taps - 1
    return math.ceil((taps + stride - 2) / 2)


def outputs_of(layer: Spec, axis: int, size: int) -> int:
    """How many outputs an axis has."""
    taps = (layer.get("filter_shape") or layer["window_shape"])[axis]
    stride, dilation = steps_of(layer, axis)
    same = layer.get("padding", "VALID") != "VALID"
    if layer["kind"] == "conv_transpose":
        return size * stride + (0 if same else max(taps - stride, 0))
    return -(-size // stride) if same else (size - dilation * (taps - 1) - 1) // stride + 1


def reads(layer: Spec, sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """The position that each tap reads at each output position, (outputs, taps); -1 is padding."""
    shape = layer.get("filter_shape") or layer["window_shape"]
    outs = [range(outputs_of(layer, axis, size)) for axis, size in enumerate(sizes)]
    table = []
    for output in itertools.product(*outs):
        row = []
        for tap in itertools.product(*(range(taps) for taps in shape)):
            entries = [entry_read(layer, i, size, output[i], tap[i]) for i, size in enumerate(sizes)]
            known = [entry for entry in entries if entry is not None]
            row.append(int(np.ravel_multi_index(known, sizes)) if len(known) == len(sizes) else -1)
        table.append(row)
    return np.array(table)


def slow_patches(layer: Spec, x: Array) -> Array:
    """(n, outputs, taps, C), zeros for padding."""
    flat = x.reshape(len(x), -1, x.shape[-1])
    table = reads(layer, x.shape[1:-1])
    return np.where((table >= 0)[None, :, :, None], flat[:, table], 0.0)


def slow_shifted_mean(layer: Spec, sizes: tuple[int, ...], moment: Array) -> Array:
    """`1/taps sum_t K(read(p, t), read(p', t))`, by loops."""
    table = reads(layer, sizes)
    outputs, taps = table.shape
    result = np.zeros((*moment.shape[:-2], outputs, outputs))
    for p, q, t in itertools.product(range(outputs), range(outputs), range(taps)):
        if min(table[p, t], table[q, t]) >= 0:
            result[..., p, q] += moment[..., table[p, t], table[q, t]] / taps
    return result


def matrix_of(layer: Spec, sizes: tuple[int, ...]) -> Array:
    """The matrix (outputs, inputs) of sums over windows."""
    table = reads(layer, sizes)
    result = np.zeros((len(table), math.prod(sizes)))
    for output, row in enumerate(table):
        for entry in row[row >= 0]:
            result[output, entry] += 1.0
    return result


# --- windows

GEOMETRIES = [
    pytest.param((7,), conv(3, padding="SAME"), id="1d-same"),
    pytest.param((7,), conv(2, padding="SAME", strides=[3]), id="1d-even-strided"),
    pytest.param((9,), conv(3, dilation=[3], strides=[2]), id="1d-dilated-valid"),
    pytest.param((6,), conv(3, dilation=[2], strides=[2], padding="CIRCULAR"), id="1d-dilated-circular"),
    pytest.param((2,), conv(5, padding="CIRCULAR"), id="1d-goes-around-twice"),
    pytest.param((1,), conv(3, padding="CIRCULAR"), id="1d-one-entry"),
    pytest.param((3,), conv(1, padding="SAME", strides=[2]), id="1d-one-tap"),
    pytest.param((4, 3), conv(3, 2, padding="SAME"), id="2d-same"),
    pytest.param((5, 4), conv(3, 2, strides=[2, 1]), id="2d-valid"),
    pytest.param((4, 5), conv(3, 3, strides=[1, 2], dilation=[2, 1], padding="CIRCULAR"), id="2d-circular"),
    pytest.param((5, 3), conv(2, 3, dilation=[3, 1], padding="SAME"), id="2d-dilated-same"),
    pytest.param((3, 2, 4), conv(2, 2, 3, strides=[1, 1, 2], padding="SAME"), id="3d-same"),
    pytest.param((3, 3, 4), conv(2, 3, 2, dilation=[1, 1, 3]), id="3d-valid"),
    pytest.param((2, 3, 3), conv(2, 1, 3, strides=[2, 1, 1], padding="CIRCULAR"), id="3d-circular"),
    *(
        pytest.param(
            sizes,
            conv(*shape, kind="conv_transpose", strides=strides, padding=padding),
            id=f"transposed-{len(sizes)}d-{'x'.join(map(str, (*shape, *strides)))}-{padding}",
        )
        for padding in ("SAME", "VALID")
        for sizes, shape, strides in (
            ((4,), (3,), (2,)),
            ((3,), (1,), (3,)),
            ((3,), (4,), (2,)),
            ((3, 2), (3, 2), (2, 3)),
            ((2, 2, 2), (2, 3, 1), (1, 2, 2)),
        )
    ),
]


def axes_of(layer: Spec, sizes: tuple[int, ...]) -> tuple[Axis, ...]:
    """The engine's windows, those of the layer's site."""
    site = model([layer, READOUT]).place((*sizes, 4)).parts[0]
    axes: tuple[Axis, ...] = site.layer.axes(site)  # type: ignore[attr-defined]
    assert site.out_shape[:-1] == tuple(outputs_of(layer, i, size) for i, size in enumerate(sizes))
    return axes


@pytest.mark.parametrize(("sizes", "layer"), GEOMETRIES)
def test_windows(sizes: tuple[int, ...], layer: Spec) -> None:
    """Means over taps at pairs of positions and at equal ones, sums over windows, and patches."""
    axes, positions = axes_of(layer, sizes), math.prod(sizes)
    moment = images(2, 3, positions, positions)
    means = slow_shifted_mean(layer, sizes, moment.numpy())
    assert_close(shifted_mean(moment, 2, axes), means)
    equal = np.diagonal(means, axis1=-2, axis2=-1)
    assert_close(shifted_mean(moment.diagonal(dim1=-2, dim2=-1), 2, axes), equal)
    matrix = matrix_of(layer, sizes)
    assert_close(pooled_sum(moment, 2, axes), matrix @ moment.numpy() @ matrix.T)
    x = images(2, *sizes, 3)
    assert_close(patches(x, axes), slow_patches(layer, x.numpy()))


@given(
    size=st.integers(1, 9),
    taps=st.integers(1, 5),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    padding=st.sampled_from(["SAME", "VALID", "CIRCULAR"]),
)
@settings(max_examples=150, deadline=None)
def test_any_window_on_one_axis(size: int, taps: int, stride: int, dilation: int, padding: str) -> None:
    axis = moving(size, taps, stride, dilation, padding)
    layer = conv(taps, strides=[stride], dilation=[dilation], padding=padding)
    outputs = outputs_of(layer, 0, size)
    assert axis.outputs == outputs or max(axis.outputs, outputs) < 1
    if outputs > 0:
        x = torch.arange(1.0, size + 1, dtype=torch.float64)
        assert_close(window_sum(x, [0], axis), matrix_of(layer, (size,)) @ x.numpy())


@given(
    size=st.integers(1, 6),
    taps=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.sampled_from(["SAME", "VALID"]),
)
@settings(max_examples=80, deadline=None)
def test_any_transposed_window(size: int, taps: int, stride: int, padding: str) -> None:
    axis = transposed(size, taps, stride, padding)
    layer = conv(taps, kind="conv_transpose", strides=[stride], padding=padding)
    x = torch.arange(1.0, size + 1, dtype=torch.float64)
    assert_close(window_sum(x, [0], axis), matrix_of(layer, (size,)) @ x.numpy())


# --- finite maps


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("sizes", "layer"), GEOMETRIES)
def test_finite_convolutions(sizes: tuple[int, ...], layer: Spec, groups: int) -> None:
    """`W_std / sqrt(n)` times weights on patches, group by group, plus `b_std b`."""
    if layer["kind"] == "conv":
        layer = layer | {"groups": groups}
    else:
        groups = 1
    x = images(2, *sizes, 6)
    network = model([layer]).network((*sizes, 6), seed=1)
    W, b = (p.numpy(force=True) for p in network.trained().values())
    read = slow_patches(layer, x.numpy())
    weights = W.reshape(read.shape[2], 6 // groups, 4)
    shares = [
        np.einsum("nptc,tco->npo", mine, filters)
        for mine, filters in zip(np.split(read, groups, 3), np.split(weights, groups, 2), strict=True)
    ]
    want = 1.3 / math.sqrt(read.shape[2] * 6 / groups) * np.concatenate(shares, 2) + 0.2 * b
    got = network(x)
    assert got.shape == (2, *(outputs_of(layer, i, size) for i, size in enumerate(sizes)), 4)
    assert_close(got.reshape(want.shape), want)


@pytest.mark.parametrize(("sizes", "layer"), GEOMETRIES[:2] + GEOMETRIES[7:9] + GEOMETRIES[13:14])
def test_finite_locally_connected(sizes: tuple[int, ...], layer: Spec) -> None:
    layer = {k: v for k, v in layer.items() if k != "dilation"} | {"kind": "conv_local"}
    x = images(2, *sizes, 3)
    network = model([layer]).network((*sizes, 3), seed=1)
    W, b = (p.numpy(force=True) for p in network.trained().values())
    read = slow_patches(layer, x.numpy())
    weights, shifts = W.reshape(*read.shape[1:], 4), b.reshape(-1, 4)
    want = 1.3 / math.sqrt(read.shape[2] * 3) * np.einsum("nptc,ptco->npo", read, weights) + 0.2 * shifts
    assert_close(network(x).reshape(want.shape), want)


POOLS = [
    ((7,), pool("sum_pool", 3, strides=[2], padding="SAME")),
    ((5, 4), pool("sum_pool", 2, 3, padding="CIRCULAR")),
    ((5, 4), pool("avg_pool", 2, 2, strides=[2, 2])),
    ((5, 4), pool("avg_pool", 3, 2, padding="SAME")),
    ((5, 4), pool("avg_pool", 3, 2, padding="SAME", normalize_edges=True)),
    ((3, 2, 3), pool("avg_pool", 2, 2, 2, padding="SAME", normalize_edges=True)),
    ((4, 3), {"kind": "global_avg_pool"}),
    ((4, 3), {"kind": "global_sum_pool"}),
]


def pooling_matrix(layer: Spec, sizes: tuple[int, ...]) -> Array:
    """The matrix (outputs, inputs) of a pool that is linear."""
    if "window_shape" not in layer:
        positions = math.prod(sizes)
        return np.full((1, positions), 1.0 / positions if layer["kind"] == "global_avg_pool" else 1.0)
    sums = matrix_of(layer, sizes)
    if layer["kind"] == "sum_pool":
        return sums
    edges = layer.get("normalize_edges", False)
    return sums / (sums.sum(1, keepdims=True) if edges else math.prod(layer["window_shape"]))


@pytest.mark.parametrize(("sizes", "layer"), POOLS)
def test_linear_pools(sizes: tuple[int, ...], layer: Spec) -> None:
    """The finite map is a matrix A over positions; moments become `A K A^T`; inputs are pooled themselves."""
    A, x = pooling_matrix(layer, sizes), images(3, *sizes, 2)
    dense = {"kind": "dense", "width": 1, "b_std": 0.3}
    site = model([layer, dense]).place((*sizes, 2)).parts[0]
    pooled = site.layer.apply(site, {}, x, ())
    assert pooled.shape[1:] == site.out_shape
    assert_close(pooled.reshape(3, len(A), 2), np.einsum("pq,nqc->npc", A, x.reshape(3, -1, 2)))
    first = infinite_kernel(model([layer, dense]), x)
    assert_close(first.ntk, infinite_kernel(model([dense]), pooled).ntk)
    before, after = (
        infinite_kernel(model([dense, RELU, dense, *end]), x.reshape(3, -1, 2) if not end else x)
        for end in ([], [layer])
    )
    for name in ("nngp", "ntk"):
        want = np.einsum("pq,ijqr,sr->ijps", A, getattr(before, name).numpy(), A)
        got = getattr(after, name)
        if len(sizes) > 1 and got.ndim > 2:  # (n1, n2, H, H, W, W)
            order = (*range(2, 2 + 2 * len(sizes), 2), *range(3, 3 + 2 * len(sizes), 2))
            got = got.permute(0, 1, *order)
        assert_close(got.reshape(want.shape), want)


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR"])
def test_max_pool(padding: str) -> None:
    layer = pool("max_pool", 3, 2, strides=[2, 1], padding=padding)
    x = images(2, 5, 4, 3)
    table = reads(layer, (5, 4))
    flat = x.reshape(2, -1, 3).numpy()
    want = np.where((table >= 0)[None, :, :, None], flat[:, table], -np.inf).max(2)
    network = model([conv(1, 1, width=3), layer, FLAT, READOUT]).network((5, 4, 3))
    site = network.site.parts[1]
    assert_close(site.layer.apply(site, {}, x, ()).reshape(want.shape), want)
    jacobian_by_rows = []
    for row in x:
        network.zero_grad()
        network(row[None]).sum().backward()
        jacobian_by_rows.append(
            torch.cat([p.grad.ravel() for p in network.parameters() if p.grad is not None])
        )
    J = torch.stack(jacobian_by_rows)
    assert_close(empirical_ntk(network, x), J @ J.T)


def test_flatten_is_row_by_row() -> None:
    x = images(2, 2, 3, 4)
    site = model([FLAT, READOUT]).place((2, 3, 4)).parts[0]
    assert site.out_shape == (24,)
    assert_close(site.layer.apply(site, {}, x, ()), x.numpy().reshape(2, 24))
    assert model([FLAT, READOUT]).place((5,)).parts[0].out_shape == (5,)


@pytest.mark.parametrize("kind", ["conv", "conv_transpose", "conv_local"])
def test_a_wider_network_holds_a_narrower_one(kind: str) -> None:
    def weights(width: int) -> dict[str, Array]:
        layers = [conv(2, 3, kind=kind, width=width), RELU, conv(2, 1, kind=kind, width=width)]
        parameterization = {"kind": "ntk"}  # whose raw draws do not depend on the width
        network = model(layers, parameterization=parameterization).network((4, 4, 2), seed=3)
        return {name: p.numpy(force=True) for name, p in network.named_parameters()}

    narrow, wide = weights(3), weights(5)
    assert np.array_equal(narrow["layers.0.W"], wide["layers.0.W"][..., :3])
    assert np.array_equal(narrow["layers.2.W"], wide["layers.2.W"][..., :3, :3])
    assert np.array_equal(narrow["layers.0.b"], wide["layers.0.b"][..., :3])


# --- rules

WIDE: dict[str, tuple[tuple[int, ...], Callable[[int], list[Spec]]]] = {
    "conv1d": (
        (6,),
        lambda N: [conv(3, width=N, dilation=[2], padding="SAME"), RELU, conv(2, width=N), ERF, FLAT],
    ),
    "conv2d": (
        (4, 3),
        lambda N: [
            conv(2, 2, width=N, padding="CIRCULAR", strides=[1, 2]),
            RELU,
            conv(3, 1, width=N, dilation=[1, 2], padding="SAME"),
            ERF,
            GAP,
        ],
    ),
    "conv3d": (
        (3, 2, 2),
        lambda N: [conv(2, 2, 1, width=N), RELU, conv(1, 1, 2, width=N, dilation=[1, 1, 1]), ERF, GAP],
    ),
    "grouped": ((4,), lambda N: [conv(2, width=N), RELU, conv(2, width=N, groups=2), ERF, GAP]),
    "conv_transpose": (
        (3,),
        lambda N: [
            conv(2, width=N),
            RELU,
            conv(3, kind="conv_transpose", width=N, strides=[2], padding="SAME"),
            ERF,
            GAP,
        ],
    ),
    "conv_local": (
        (4,),
        lambda N: [
            conv(2, kind="conv_local", width=N),
            RELU,
            conv(2, kind="conv_local", width=N, padding="SAME"),
            ERF,
            GAP,
        ],
    ),
    "pools": (
        (4, 4),
        lambda N: [
            conv(2, 2, width=N, padding="SAME"),
            RELU,
            pool("avg_pool", 2, 2, strides=[2, 1]),
            conv(2, 1, width=N),
            ERF,
            pool("sum_pool", 1, 2),
            FLAT,
        ],
    ),
    "flatten": ((2, 2), lambda N: [conv(2, 1, width=N), RELU, FLAT, {"kind": "dense", "width": N}, ERF]),
}


@pytest.mark.parametrize(
    ("name", "parameterization"),
    # under standard, kernels show how many numbers a unit sums
    [*((name, "ntk") for name in WIDE), ("grouped", "standard"), ("flatten", "standard")],
)
def test_wide_networks_approach_the_rule(name: str, parameterization: str) -> None:
    """The mean over seeds of the empirical kernel, within 4 standard errors and the bias of order 1/N."""
    width, seeds = 256, 20
    sizes, layers = WIDE[name]
    spec = model([*layers(width), READOUT], parameterization={"kind": parameterization})
    x = images(2, *sizes, 2)
    limit = infinite_kernel(spec, x, widths="as_given").ntk
    drawn = torch.stack([empirical_ntk(spec.network((*sizes, 2), seed=s), x) for s in range(seeds)])
    error = (drawn.mean(0) - limit).abs()
    assert bool((error <= 4.0 * drawn.std(0) / seeds**0.5 + 4.0 / width * limit.abs().max()).all())


NETWORKS = {
    "conv": [conv(3, 2, padding="SAME"), ERF, conv(2, 2, padding="CIRCULAR"), ERF, FLAT, READOUT],
    "local": [conv(2, 2, kind="conv_local"), ERF, conv(2, 2, kind="conv_local"), ERF, FLAT, READOUT],
    "transposed": [conv(2, 2, kind="conv_transpose", strides=[2, 1]), ERF, conv(1, 2), ERF, FLAT, READOUT],
    "pooled": [conv(2, 2), ERF, pool("avg_pool", 2, 2), conv(1, 1), ERF, FLAT, READOUT, ERF, READOUT],
    "global": [conv(2, 2), ERF, GAP, READOUT, ERF, READOUT],
    "grouped": [conv(2, 2), ERF, conv(2, 2, width=6, groups=2), ERF, FLAT, READOUT],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_equal_positions_alone_give_the_same_kernel(name: str) -> None:
    """The rules on all covariances between positions, against those on what they say they need."""
    x = images(3, 4, 4, 2)
    spec = model(NETWORKS[name])
    fold = Fold(spec.place((4, 4, 2)), symbolic=True)
    state = KernelState.from_inputs(x, x, symmetric=False, symbolic=True, needs=Needs())
    for part in fold.site.parts:
        state = part.layer.rule(part, state)
    assert_close(state.ntk.pair, infinite_kernel(spec, x, x).ntk)
    assert_close(state.nngp.pair, infinite_kernel(spec, x, x).nngp)
    if FLAT in NETWORKS[name] and name != "pooled":
        assert fold.needs() == Needs(Extent.DIAGONAL, Extent.DIAGONAL)


@pytest.mark.parametrize("name", NETWORKS)
def test_symmetric_and_rectangular_kernels_agree(name: str) -> None:
    x = images(4, 4, 4, 2)
    spec = model(NETWORKS[name])
    symmetric, rectangular = infinite_kernel(spec, x), infinite_kernel(spec, x[:3], x)
    assert_close(symmetric.ntk[:3], rectangular.ntk)
    assert torch.equal(symmetric.ntk, symmetric.ntk.T)


def test_positions_of_a_locally_connected_layer_are_uncorrelated() -> None:
    x = images(2, 4, 2)
    local = infinite_kernel(model([conv(2, kind="conv_local")]), x)
    shared = infinite_kernel(model([conv(2)]), x)
    for name in ("nngp", "ntk"):
        want = getattr(shared, name) * torch.eye(3, dtype=torch.float64)
        assert_close(getattr(local, name), want)


@pytest.mark.parametrize("kind", ["conv", "conv_local", "conv_transpose"])
def test_quadratic_moments_of_weights_of_another_law(kind: str) -> None:
    """`E[z^2 z'^2] = q11 q22 + 2 q12^2 + kappa4 sum_k x_k^2 x'_k^2 / n^2`, where both share their weights."""
    layer = conv(3, kind=kind, width=None, padding="SAME", W_law=UNIFORM, W_std=1.0, b_std=None)
    x = images(2, 4, 2)
    read = slow_patches(layer, x.numpy()).reshape(2, 4, -1)
    n = read.shape[2]
    second, fourth = 1.0 / 3.0, 1.0 / 5.0 - 3.0 / 9.0
    shared = np.eye(4) if kind == "conv_local" else np.ones((4, 4))
    q = np.einsum("ipk,jqk->ijpq", read, read) * second / n * shared
    kappa = np.einsum("ipk,jqk->ijpq", read**2, read**2) * fourth / n**2 * shared
    v = (read**2).sum(2) * second / n
    want = v[:, None, :, None] * v[None, :, None, :] + 2.0 * q**2 + kappa
    assert_close(infinite_kernel(model([layer, {"kind": "quadratic"}]), x).nngp, want)


def test_widths_that_were_left_out_fit() -> None:
    x = images(2, 4, 4, 2)
    given_, free = (
        infinite_kernel(
            model([conv(2, 2, width=w), RELU, conv(2, 2, width=w, groups=2), ERF, FLAT, READOUT]), x
        )
        for w in (4, None)
    )
    assert_close(free.ntk, given_.ntk)


# --- what is refused


@pytest.mark.parametrize(
    ("layers", "message", "pointer"),
    [
        (
            [conv(3, 3)],
            r"layers\.0: filter_shape has 2 numbers, the input 1 spatial",
            "/layers/0/filter_shape",
        ),
        ([conv(9)], "a window of 9 does not fit on an axis of 5", "/layers/0/filter_shape"),
        ([conv(3, dilation=[3])], "a window of 7 does not fit", "/layers/0/filter_shape"),
        ([conv(3, strides=[1, 1])], "strides has 2 numbers", "/layers/0/strides"),
        ([conv(3, dilation=[1, 2])], "dilation has 2 numbers", "/layers/0/dilation"),
        ([conv(3, groups=2)], "3 channels do not split into 2 groups", "/layers/0/groups"),
        ([conv(3, groups=3)], "4 channels do not split into 3 groups", "/layers/0/groups"),
        ([FLAT, GAP], "global_avg_pool needs spatial axes", "/layers/1"),
        ([pool("avg_pool", 2, 2)], "window_shape has 2 numbers", "/layers/0/window_shape"),
        ([pool("max_pool", 2, strides=[1, 1])], "strides has 2 numbers", "/layers/0/strides"),
        ([pool("sum_pool", 6)], "a window of 6 does not fit", "/layers/0/window_shape"),
    ],
)
def test_misfits(layers: list[Spec], message: str, pointer: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        model([*layers, READOUT]).place((5, 3))
    assert caught.value.pointer == pointer
    assert caught.value.hint


def test_bad_fields() -> None:
    for layer in (
        conv(),
        conv(2, 2, 2, 2),
        conv(0),
        conv(2, strides=[0]),
        conv(2, padding="FULL"),
        conv(2, kind="conv_transpose", padding="CIRCULAR"),
        conv(2, kind="conv_local", groups=2),
    ):
        with pytest.raises(ValidationError):
            model([layer])


UNIFORM_CONV = conv(2, W_law=UNIFORM)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([conv(2), pool("max_pool", 2), FLAT], r"layers\.1: max_pool has no infinite-width rule"),
        ([conv(2, groups=2)], r"layers\.0: groups of the inputs' own channels"),
        ([conv(2), RELU, conv(2, groups=4)], r"layers\.2: a depthwise convolution"),
        ([conv(2), FLAT, RELU], r"layers\.2: relu acts on features that are not Gaussian"),
        ([UNIFORM_CONV, GAP, {"kind": "quadratic"}], r"layers\.2: quadratic acts on features that are not"),
    ],
)
def test_no_rule(layers: list[Spec], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message) as caught:
        infinite_kernel(model([*layers, READOUT]), images(2, 5, 2))
    assert caught.value.hint


def test_max_pool_of_inputs_has_a_kernel() -> None:
    x = images(2, 4, 2)
    pooled = torch.maximum(x[:, 1:], x[:, :-1])
    layers = [conv(2), RELU, FLAT, READOUT]
    want = infinite_kernel(model(layers), pooled).ntk
    assert_close(infinite_kernel(model([pool("max_pool", 2), *layers]), x).ntk, want)
