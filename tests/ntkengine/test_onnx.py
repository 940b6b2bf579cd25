"""Every operator against ONNX's own reference; whole models; and files that must be refused."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ntkengine.errors import EngineError, ResourceError, SpecError, UnsupportedError
from ntkengine.onnx_models import load_onnx
from ntkengine.onnx_models.graph import node_of
from ntkengine.onnx_models.node import PRECISION
from ntkengine.onnx_models.operators import OPERATORS
from ntkengine.onnx_models.operators.recurrent import RECURRENT
from ntkengine.onnx_models.types import tensor_of
from tests.compare import assert_close
from tests.onnx_files import Array, file, onnx, reference

make = onnx.helper.make_node

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def positive(*shape: int) -> Array:
    return RNG.uniform(0.5, 2.0, shape)


def ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def ours(model: Any, inputs: Mapping[str, Array]) -> torch.Tensor:
    result: torch.Tensor = load_onnx(model.SerializeToString())(
        *(torch.from_numpy(x.copy()) for x in inputs.values())
    )
    return result


def case(
    op: str, x: Array, *tensors: Array | None, opset: int = 18, name: str = "", **attributes: Any
) -> Any:
    return pytest.param(op, x, tensors, opset, attributes, id=f"{op} {name or attributes} {opset}")


EVEN32 = normal(2, 4, 6).astype(np.float32)  # the reference standardises in single precision
X, V = normal(3, 4), normal(3, 2, 7)
IMAGE, VOLUME = normal(2, 4, 9, 8), normal(2, 2, 5, 4, 6)

UNARY = [
    *(
        "Abs",
        "Ceil",
        "Cos",
        "Exp",
        "Floor",
        "HardSigmoid",
        "Identity",
        "LeakyRelu",
        "LogSoftmax",
        "Mish",
        "Neg",
    ),
    *(
        "Reciprocal",
        "Relu",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softmax",
        "Softplus",
        "Softsign",
        "Tanh",
        "Elu",
    ),
    *("Celu", "ThresholdedRelu", "Transpose", "Flatten", "Dropout"),
]
EDGES = np.array([[1.0, np.nan], [np.inf, -np.inf]])
REDUCTIONS = ["L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]

CASES = [
    *(case(op, X * 3, opset=20) for op in UNARY),
    # where the reference rounds constants of its own to single precision
    *(case(op, (X * 3).astype(np.float32), opset=20) for op in ("Erf", "Gelu", "HardSwish")),
    case("Gelu", X.astype(np.float32), opset=20, approximate="tanh"),
    *(case(op, positive(3, 4)) for op in ("Log", "Sqrt")),
    *(case(op, X, normal(4)) for op in ("Add", "Sub", "Mul", "PRelu")),
    *(case(op, X, normal(3, 1), normal(1, 4)) for op in ("Max", "Min", "Sum", "Mean")),
    *(
        case(op, X, X.round(1) * (X > 0))
        for op in ("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal")
    ),
    case("Div", X, positive(4)),
    case("Div", ints(7, -7, 5), ints(2, 2, -3)),
    case("Mod", ints(7, -7, 5), ints(2, 3, -3)),
    case("Mod", X, positive(4), fmod=1),
    case("Pow", positive(3, 4), np.array(2.5)),
    case("Pow", X, ints(3)),
    case("Pow", ints(2, 3), np.array(2.0)),
    case("And", X > 0, X > 1),
    case("Or", X > 0, X > 1),
    case("Not", X > 0),
    case("IsNaN", EDGES),
    case("IsInf", EDGES),
    case("IsInf", EDGES, detect_negative=0),
    case("IsInf", EDGES, detect_positive=0),
    case("Where", X > 0, normal(3, 4), normal(1)),
    case("Elu", X, alpha=0.3),
    case("Celu", X, alpha=0.3),
    case("Selu", X, alpha=1.2, gamma=0.7),
    case("LeakyRelu", X, alpha=0.3),
    case("HardSigmoid", X, alpha=0.4, beta=0.1),
    case("ThresholdedRelu", X, alpha=0.3),
    case("Swish", X, opset=24),
    case("Swish", X, opset=24, alpha=1.7),
    case("Clip", X, np.array(-0.5), np.array(0.3)),
    case("Clip", X, None, np.array(0.3), name="above"),
    case("Clip", X, np.array(-0.1), name="below"),
    case("Clip", X.astype(np.float32), opset=9, min=-0.5, max=0.25),
    case("Cast", X * 5, to=7),
    case("Cast", ints(1, 0, 2), to=11),
    case("Cast", X, to=1),
    case("CastLike", ints(1, 0, 2), np.zeros(1)),
    case("Gemm", X, normal(4, 5)),
    case("Gemm", X, normal(5, 4), normal(5), transB=1),
    case("Gemm", X, normal(5, 4), normal(1, 5), transB=1, alpha=0.5, beta=2.0),
    case("MatMul", X, normal(4, 5), name="matrix"),
    case("MatMul", V, normal(3, 7, 2), name="batch"),
    case("MatMul", X, normal(4), name="vector"),
    case("Einsum", V, normal(7, 5), equation="ncl,lm->nmc"),
    case("Einsum", V, normal(7, 5), equation="...l,lm"),
    *(case(op, V, axis=1) for op in ("Softmax", "LogSoftmax")),
    case("Softmax", X, opset=11),
    case("Conv", V, normal(5, 2, 3), normal(5), pads=[1, 1]),
    case("Conv", IMAGE, normal(6, 2, 3, 2), normal(6), group=2, strides=[2, 1], pads=[1, 0, 2, 1]),
    case("Conv", IMAGE, normal(6, 4, 3, 2), dilations=[2, 3]),
    *(
        case("Conv", IMAGE, normal(3, 4, 3, 2), auto_pad=auto, strides=[2, 3])
        for auto in ("SAME_UPPER", "SAME_LOWER")
    ),
    case("Conv", IMAGE, normal(3, 4, 2, 2), auto_pad="VALID"),
    case("Conv", VOLUME, normal(3, 2, 2, 3, 2), normal(3), strides=[1, 2, 2], pads=[1, 0, 1, 1, 0, 1]),
    case("ConvTranspose", V, normal(2, 3, 4), normal(3), strides=[2], pads=[1, 2], output_padding=[1]),
    case("ConvTranspose", IMAGE, normal(4, 3, 3, 2), normal(3), strides=[2, 2], pads=[1, 0, 0, 1]),
    case("ConvTranspose", IMAGE, normal(4, 3, 3, 2), group=1, dilations=[2, 2]),
    case("ConvTranspose", IMAGE, normal(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    case("AveragePool", V, kernel_shape=[3], strides=[2]),
    case("AveragePool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    case("AveragePool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", IMAGE, kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
    case("AveragePool", IMAGE, opset=19, kernel_shape=[2, 3], dilations=[2, 2]),
    case("AveragePool", VOLUME, kernel_shape=[2, 2, 2]),
    case("MaxPool", V, kernel_shape=[3], strides=[2], pads=[1, 1]),
    case("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    case("MaxPool", IMAGE, kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], dilations=[2, 3]),
    case("MaxPool", IMAGE, kernel_shape=[4, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    case("MaxPool", VOLUME, kernel_shape=[2, 2, 2]),
    case("GlobalAveragePool", IMAGE),
    case("GlobalMaxPool", IMAGE),
    case("BatchNormalization", IMAGE, normal(4), normal(4), normal(4), positive(4), opset=15, epsilon=1e-3),
    case("BatchNormalization", X, normal(4), normal(4), normal(4), positive(4), opset=14),
    case("LayerNormalization", V, normal(7), normal(7)),
    case("LayerNormalization", V, normal(2, 7), axis=1, epsilon=0.1),
    case("RMSNormalization", V, normal(7), opset=23),
    case("InstanceNormalization", IMAGE, normal(4), normal(4), epsilon=1e-2),
    case("GroupNormalization", EVEN32, *normal(2, 4).astype(np.float32), opset=21, num_groups=2),
    case("Flatten", IMAGE, axis=2),
    case("Flatten", IMAGE, axis=-1),
    case("Flatten", IMAGE, axis=0),
    case("Reshape", IMAGE, ints(0, -1, 8)),
    case("Reshape", IMAGE, ints(-1, 4, 72), allowzero=1),
    case("Transpose", V, perm=[0, 2, 1]),
    case("Squeeze", normal(3, 1, 4, 1), ints(1, -1)),
    case("Squeeze", normal(3, 1, 4, 1), name="all"),
    case("Squeeze", normal(3, 1, 4, 1), opset=11, axes=[1, 3]),
    case("Unsqueeze", X, ints(0, -1)),
    case("Unsqueeze", X, opset=11, axes=[1, 3]),
    case("Concat", X, normal(3, 2), normal(3, 1), axis=1),
    case("Concat", X, normal(3, 2), axis=-1),
    case("Slice", V, ints(1, -3), ints(3, 1000), ints(0, 2)),
    case("Slice", V, ints(5), ints(-1000), ints(-1), ints(-2)),
    case("Slice", V, ints(0, 0), ints(2, 1)),
    case("Slice", V, opset=9, starts=[1], ends=[-1], axes=[2]),
    case("Gather", V, ints(6, 0, -1).reshape(3, 1), axis=2),
    case("Gather", V, np.array(1), axis=1),
    case("Gather", ints(4, 5, 6), np.array(-1), name="scalar"),
    case("GatherElements", X, ints(0, -1, 2, 1, 1, 0).reshape(3, 2), axis=1),
    case("Expand", normal(3, 1), ints(2, 1, 4)),
    case("Tile", X, ints(2, 3)),
    case("Pad", V, ints(0, 1, 2, 0, 0, 3), np.array(1.5), name="constant"),
    case("Pad", V, ints(2, 1), None, ints(-1), name="axes"),
    *(case("Pad", V, ints(0, 0, 3, 0, 0, 2), opset=19, mode=mode) for mode in ("reflect", "edge", "wrap")),
    case("Pad", X.astype(np.float32), opset=9, pads=[0, 1, 0, 2], value=2.5),
    case("Trilu", normal(3, 5, 5), name="upper"),
    case("Trilu", normal(3, 5, 5), np.array(-1), upper=0),
    case("Shape", V),
    case("Shape", V, start=1, end=-1),
    case("Size", V),
    *(case(f"Reduce{op}", V, axes=[1, -1], opset=11, keepdims=0) for op in REDUCTIONS),
    *(case(f"Reduce{op}", V, ints(-1)) for op in REDUCTIONS),
    *(case(f"Reduce{op}", V, name="all") for op in REDUCTIONS),
    case("ReduceSum", V, noop_with_empty_axes=1),
    case("ReduceSum", ints(1, 2, 3), keepdims=0),
]


def single(op: str, x: Array, tensors: Sequence[Array | None], opset: int, attributes: Any) -> Any:
    """A model of one node."""
    given = {f"t{place}": tensor for place, tensor in enumerate(tensors) if tensor is not None}
    names = [f"t{place}" if tensor is not None else "" for place, tensor in enumerate(tensors)]
    return file([make(op, ["x", *names], ["y"], **attributes)], {"x": x}, given, opset=opset)


def alone(model: Any, x: Array) -> torch.Tensor:
    """The one node of a model by the table: its output may have any shape, with or without samples."""
    tensors = {each.name: tensor_of(each) for each in model.graph.initializer}
    node = node_of(model.graph.node[0], model.opset_import[0].version, tensors)
    known = tensors | {"x": torch.from_numpy(x), PRECISION: torch.zeros(())}
    return OPERATORS[node.op](  # type: ignore[return-value]
        node, *(known[name] if name else None for name in node.inputs)
    )


def assert_same(got: torch.Tensor, want: Array) -> None:
    """Same type and shape; reals close, others equal."""
    assert got.numpy().dtype == want.dtype
    assert got.shape == want.shape
    if want.dtype.kind == "f":
        assert_close(got, want)
    else:
        np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize(("op", "x", "tensors", "opset", "attributes"), CASES)
def test_operator(op: str, x: Array, tensors: Sequence[Array | None], opset: int, attributes: Any) -> None:
    model = single(op, x, tensors, opset, attributes)
    assert_same(alone(model, x), reference(model, {"x": x}))


def test_every_operator_has_a_case() -> None:
    in_models = {"Constant", "ConstantOfShape", "Range", "Split"}
    elsewhere = set(RECURRENT)  # test_onnx_recurrent.py
    assert {each.values[0] for each in CASES} | in_models | elsewhere == set(OPERATORS)


@pytest.mark.parametrize(
    ("op", "x", "tensors", "attributes", "same"),
    [
        # by the definition: total = 2, 1 in excess of the shape, the odd one at the beginning
        (
            "ConvTranspose",
            IMAGE,
            [normal(4, 3, 3, 3)],
            {"strides": [3, 2], "output_shape": [25, 16]},
            {"strides": [3, 2], "pads": [1, 1, 1, 0]},
        ),
        (
            "MaxPool",
            IMAGE,
            [],
            {"kernel_shape": [4, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
            {"kernel_shape": [4, 3], "strides": [2, 2], "pads": [2, 1, 1, 0]},
        ),
    ],
)
def test_padding_that_the_reference_gets_wrong(
    op: str, x: Array, tensors: list[Array], attributes: Any, same: Any
) -> None:
    got, want = (alone(single(op, x, tensors, 18, each), x) for each in (attributes, same))
    assert_same(got, want.numpy())


def test_negative_padding_cuts() -> None:
    model = single("Pad", V, [ints(0, 0, -1, 0, 0, 2)], 18, {})
    assert_same(alone(model, V), np.pad(V[:, :, 1:], ((0, 0), (0, 0), (0, 2))))


def test_softmax_before_version_13_is_over_all_axes_from_its_own_on() -> None:
    exp = np.exp(V)
    want = exp / exp.sum(axis=(1, 2), keepdims=True)
    assert_same(alone(single("Softmax", V, [], 11, {"axis": 1}), V), want)
    assert_same(alone(single("LogSoftmax", V, [], 11, {}), V), np.log(want))


def test_group_norm_before_version_21_scales_groups() -> None:
    scale, bias = normal(2, 2).astype(np.float32)
    old = single("GroupNormalization", EVEN32, [scale, bias], 18, {"num_groups": 2})
    new = single("GroupNormalization", EVEN32, [scale.repeat(2), bias.repeat(2)], 21, {"num_groups": 2})
    assert_same(alone(old, EVEN32), reference(new, {"x": EVEN32}))


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_split(opset: int) -> None:
    tensors = {} if opset < 13 else {"sizes": ints(1, 3, 2)}
    by_size = {"split": [1, 3, 2]} if opset < 13 else {}
    count = {"num_outputs": 4} if opset >= 18 else {}
    halves = ["h0", "h1", "h2", "h3"] if opset >= 18 else ["h0", "h1"]  # 6 in 4: 2, 2, 2, 0
    nodes = [
        make("Split", ["x", *tensors], ["a", "b", "c"], axis=1, **by_size),
        make("Split", ["x"], halves, axis=1, **count),
        make("Concat", ["c", "h1", "a", "h0", "b"], ["y"], axis=1),
    ]
    x = normal(3, 6)
    model = file(nodes, {"x": x}, tensors, opset=opset)
    assert_same(ours(model, {"x": x}).detach(), reference(model, {"x": x}))


def multilayer_perceptron() -> tuple[Any, dict[str, Array]]:
    """Gemm with and without a transpose, MatMul and Add, a weight that is used twice."""
    nodes = [
        make("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h1"], transB=1),
        make("Tanh", ["h1"], ["a1"]),
        make("MatMul", ["a1", "onnx::MatMul_7"], ["m"]),
        make("Add", ["body.2.bias", "m"], ["h2"]),
        make("Softplus", ["h2"], ["a2"]),
        make("MatMul", ["a2", "tied"], ["h3"]),
        make("MatMul", ["h3", "tied"], ["h4"]),
        make("Constant", [], ["half"], value_float=0.5),
        make("CastLike", ["half", "h4"], ["half64"]),
        make("Mul", ["h4", "half64"], ["h5"]),
        make("Gemm", ["h5", "out", "c"], ["y"]),
    ]
    tensors = {
        "fc1.weight": normal(5, 4),
        "fc1.bias": normal(5),
        "onnx::MatMul_7": normal(5, 6),
        "body.2.bias": normal(6),
        "tied": normal(6, 6),
        "out": normal(6, 3),
        "c": normal(3),
        "unused": normal(2),
    }
    x = {"x": normal(5, 4)}
    return file(nodes, x, tensors, opset=20), x


def convolutional() -> tuple[Any, dict[str, Array]]:
    """Convolutions, one padded on one side only, batch norm, a residual sum, pooling and a read-out."""
    statistics = ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    nodes = [
        make("Conv", ["x", "conv1.weight", "conv1.bias"], ["c1"], pads=[1, 1, 1, 1]),
        make("BatchNormalization", ["c1", *statistics], ["b1"]),
        make("Relu", ["b1"], ["r1"]),
        make("Conv", ["r1", "conv2.weight"], ["c2"], pads=[0, 0, 1, 1]),
        make("Add", ["r1", "c2"], ["s"]),
        make("MaxPool", ["s"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        make("GlobalAveragePool", ["p"], ["g"]),
        make("Flatten", ["g"], ["f"]),
        make("Gemm", ["f", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    tensors = {
        "conv1.weight": normal(4, 2, 3, 3),
        "conv1.bias": normal(4),
        "bn.weight": normal(4),
        "bn.bias": normal(4),
        "bn.running_mean": normal(4),
        "bn.running_var": positive(4),
        "conv2.weight": normal(4, 4, 2, 2),
        "fc.weight": normal(3, 4),
        "fc.bias": normal(3),
    }
    x = {"x": normal(5, 2, 6, 6)}
    return file(nodes, x, tensors, opset=17), x


def transformer() -> tuple[Any, dict[str, Array]]:
    """One block with two heads on tokens, its shapes computed from the input's as exporters do."""
    nodes = [
        make("Gather", ["embed.weight", "tokens"], ["e"]),
        make("Shape", ["tokens"], ["shape"]),
        make("Gather", ["shape", "zero"], ["n"], axis=0),
        make("Gather", ["shape", "one"], ["length"], axis=0),
        make("Range", ["zero", "length", "one"], ["places"]),
        make("Gather", ["position.weight", "places"], ["position"]),
        make("Add", ["e", "position"], ["h"]),
        make("LayerNormalization", ["h", "norm.weight", "norm.bias"], ["normed"]),
        make("MatMul", ["normed", "W_qkv"], ["qkv_"]),
        make("Add", ["qkv_", "qkv.bias"], ["qkv"]),
        make("Split", ["qkv"], ["q", "k", "v"], axis=2, num_outputs=3),
        make("Unsqueeze", ["n", "axis0"], ["n1"]),
        make("Unsqueeze", ["length", "axis0"], ["l1"]),
        make("Concat", ["n1", "l1", "heads"], ["split_shape"], axis=0),
        *(make("Reshape", [each, "split_shape"], [f"{each}r"]) for each in "qkv"),
        make("Transpose", ["qr"], ["qt"], perm=[0, 2, 1, 3]),
        make("Transpose", ["kr"], ["kt"], perm=[0, 2, 3, 1]),
        make("Transpose", ["vr"], ["vt"], perm=[0, 2, 1, 3]),
        make("MatMul", ["qt", "kt"], ["scores_"]),
        make("Div", ["scores_", "root"], ["scores"]),
        make("Concat", ["l1", "l1"], ["square"], axis=0),
        make(
            "ConstantOfShape", ["square"], ["hidden_"], value=onnx.numpy_helper.from_array(np.array([-1e9]))
        ),
        make("Trilu", ["hidden_", "one"], ["hidden"]),
        make("Add", ["scores", "hidden"], ["masked"]),
        make("Softmax", ["masked"], ["weights"]),
        make("MatMul", ["weights", "vt"], ["mixed"]),
        make("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
        make("Concat", ["n1", "minus", "width"], ["joined_shape"], axis=0),
        make("Reshape", ["back", "joined_shape"], ["joined"]),
        make("MatMul", ["joined", "W_o"], ["o"]),
        make("Add", ["h", "o"], ["residual"]),
        make("ReduceMean", ["residual", "axis1"], ["mean"], keepdims=0),
        make("Gemm", ["mean", "head.weight", "head.bias"], ["y"], transB=1),
    ]
    tensors = {
        "embed.weight": normal(11, 4),
        "position.weight": normal(8, 4),
        "norm.weight": normal(4),
        "norm.bias": normal(4),
        "W_qkv": normal(4, 12),
        "qkv.bias": normal(12),
        "root": np.array(np.sqrt(2.0)),
        "W_o": normal(4, 4),
        "head.weight": normal(3, 4),
        "head.bias": normal(3),
        "zero": np.array(0),
        "one": np.array(1),
        "axis0": ints(0),
        "axis1": ints(1),
        "heads": ints(2, 2),
        "minus": ints(-1),
        "width": ints(4),
    }
    x = {"tokens": RNG.integers(0, 11, (5, 6))}
    return file(nodes, x, tensors, opset=18), x


MODELS = [multilayer_perceptron, convolutional, transformer]


@pytest.mark.parametrize("build", MODELS)
def test_models(build: Any) -> None:
    """Outputs at two sizes of batch, together and one by one."""
    model, inputs = build()
    for rows in (5, 1):
        some = {name: value[:rows] for name, value in inputs.items()}
        assert_close(ours(model, some).detach(), reference(model, some))
    f = load_onnx(model.SerializeToString())
    (x,) = (torch.from_numpy(each) for each in inputs.values())
    with torch.no_grad():
        assert_close(torch.func.vmap(lambda row: f(row[None])[0])(x), f(x))
        assert_close(f(**{f.input_names[0]: x}), f(x))


@pytest.mark.parametrize("build", MODELS)
def test_jacobians(build: Any) -> None:
    """Derivatives by every tensor, per sample by `torch.func`, against central differences."""
    model, inputs = build()
    f = load_onnx(model.SerializeToString())
    (x,) = (torch.from_numpy(each[:2]) for each in inputs.values())
    trained = {name: each.detach() for name, each in f.named_parameters()}

    def outputs(tensors: Any, row: Any) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(f, tensors, (row[None],))[0]
        return result

    jacobians: Any = torch.func.vmap(torch.func.jacrev(outputs), (None, 0))(trained, x)
    generator = torch.Generator().manual_seed(0)
    step = 1e-5  # truncation of order step^2, rounding of order 1e-16 / step
    for name, tensor in trained.items():
        along = torch.randn(tensor.shape, dtype=tensor.dtype, generator=generator)
        moved = [
            torch.func.functional_call(f, trained | {name: tensor + h * along}, (x,)) for h in (step, -step)
        ]
        slope = (jacobians[name] * along).flatten(2).sum(2)
        scale = float(moved[0].detach().abs().max())
        difference = (moved[0] - moved[1]).detach() / (2 * step)
        assert float((slope - difference).abs().max()) <= 1e-7 * (scale + float(slope.abs().max())), name
        assert float(slope.abs().max()) > 0, name


def test_names_and_layers() -> None:
    """Weights that one node reads are those of torch's layers, and keep their names where they can."""
    f = load_onnx(multilayer_perceptron()[0].SerializeToString())
    assert {name: f.onnx_names[name] for name, _ in f.named_parameters()} == {
        "fc1.weight": "fc1.weight",
        "fc1.bias": "fc1.bias",
        "body.2.weight": "onnx::MatMul_7",
        "body.2.bias": "body.2.bias",
        "tied": "tied",
        "out.weight": "out",
        "out.bias": "c",
    }
    kinds: Any = {
        path: type(each) for path, each in f.named_modules() if type(each) is not nn.Module and path
    }
    assert kinds == {"fc1": nn.Linear, "body.2": nn.Linear, "out": nn.Linear}
    f = load_onnx(convolutional()[0].SerializeToString())
    assert {path for path, each in f.named_modules() if isinstance(each, nn.Conv2d)} == {"conv1", "conv2"}
    assert {name for name, _ in f.named_buffers()} == {"bn.running_mean", "bn.running_var"}
    f = load_onnx(transformer()[0].SerializeToString())
    kinds = {path: type(each) for path, each in f.named_modules() if type(each) is not nn.Module and path}
    # the table of positions is read by no entry of the input, and the exponent of a scale is no weight
    assert kinds == {"embed": nn.Embedding, "qkv": nn.Linear, "W_o": nn.Linear, "head": nn.Linear}
    assert "position.weight" in dict(f.named_parameters())
    assert "root" in dict(f.named_buffers())


def test_trainable_names_the_parameters() -> None:
    content = convolutional()[0].SerializeToString()
    f = load_onnx(content, trainable=["fc.weight", "bn.running_mean"])
    assert {name for name, _ in f.named_parameters()} == {"fc.weight", "bn.running_mean"}
    assert {"fc.bias", "conv1.weight"} <= {name for name, _ in f.named_buffers()}
    with pytest.raises(SpecError, match=r"fc\.wieght"):
        load_onnx(content, trainable=["fc.wieght"])


def test_names_that_torch_reserves_or_cannot_hold() -> None:
    names = ["train", "a", "a.b", "..", "forward.type", "x" + ".y" * 5000]
    nodes = [make("Sum", ["x", *names], ["y"])]
    x = {"x": normal(2, 3)}
    model = file(nodes, x, {name: normal(3) for name in names}, opset=18)
    f = load_onnx(model.SerializeToString())
    assert {f.onnx_names[name] for name, _ in f.named_parameters()} == set(names)
    assert_close(ours(model, x).detach(), reference(model, x))


def test_single_precision_files_in_double_precision() -> None:
    """Constants and casts to float32 follow the module: nothing is rounded on the way."""
    nodes = [
        make("MatMul", ["x", "W"], ["h"]),
        make("Cast", ["h"], ["cast"], to=1),
        make("Constant", [], ["c"], value_float=0.5),
        make("Mul", ["cast", "c"], ["y"]),
    ]
    W = normal(3, 2).astype(np.float32)
    x = normal(4, 3)
    model = file(nodes, {"x": x.astype(np.float32)}, {"W": W}, opset=18, output=1)
    f = load_onnx(model.SerializeToString())
    assert f(torch.from_numpy(x).float()).dtype == torch.float32
    assert_close(f.double()(torch.from_numpy(x)).detach(), x @ W.astype(np.float64) * 0.5)


def test_several_inputs() -> None:
    nodes = [make("Sub", ["a", "b"], ["y"])]
    a, b = normal(2, 3), normal(2, 3)
    f = load_onnx(file(nodes, {"a": a, "b": b}, {}, opset=18).SerializeToString())
    assert_close(f(torch.from_numpy(a), torch.from_numpy(b)), a - b)
    assert_close(f(b=torch.from_numpy(b), a=torch.from_numpy(a)), a - b)
    with pytest.raises(SpecError, match="expected the inputs a, b"):
        f(torch.from_numpy(a))


def pickled() -> bytes:
    return pickle.dumps({"weights": [1.0]})


def zipped() -> bytes:
    """As torch.save and torch.export write them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (pickled(), "a pickle"),
        (pickle.dumps([1.0], protocol=0), "not an ONNX file"),
        (zipped(), r"zip archive.*torch\.export"),
        (b"", "not an ONNX file"),
        (b"garbage" * 100, "not an ONNX file"),
        (bytes(range(256)) * 4, "not an ONNX file"),
    ],
)
def test_other_files_are_refused_with_the_way_out(content: bytes, what: str) -> None:
    with pytest.raises(UnsupportedError, match=what) as caught:
        load_onnx(content)
    assert "torch.onnx.export" in str(caught.value.hint)


def test_unknown_operators_are_named() -> None:
    nodes = [
        make("Hardmax", ["x"], ["h"], name="hard"),
        make("Gelu", ["h"], ["y"], name="fused", domain="com.microsoft"),
    ]
    model = file(nodes, {"x": X}, {}, opset=18)
    with pytest.raises(
        UnsupportedError, match=r"Hardmax \(nodes hard\); com.microsoft::Gelu \(nodes fused"
    ) as caught:
        load_onnx(model.SerializeToString())
    assert "Gemm" in str(caught.value.hint)


def perceptron_file(change: Any) -> bytes:
    model, _ = multilayer_perceptron()
    change(model)
    content: bytes = model.SerializeToString()
    return content


def more_entries(model: Any) -> None:
    model.graph.initializer[0].dims[0] = 10**9


def other_shape(model: Any) -> None:
    model.graph.initializer[2].dims[:] = [6, 5]


def negative(model: Any) -> None:
    model.graph.initializer[0].dims[:] = [-5, -4]


@pytest.mark.parametrize("lie", [more_entries, other_shape, negative])
def test_dims_that_lie(lie: Any) -> None:
    with pytest.raises(SpecError):
        load_onnx(perceptron_file(lie))


def test_cut_off_files_raise_errors_of_ours() -> None:
    content = perceptron_file(lambda _: None)
    for length in range(0, len(content) - 1, 37):
        with pytest.raises(EngineError):
            load_onnx(content[:length])


def test_wrong_inputs_name_the_node() -> None:
    f = load_onnx(perceptron_file(lambda model: setattr(model.graph.node[0], "name", "/fc1/Gemm")))
    with pytest.raises(SpecError, match=r"node /fc1/Gemm \(Gemm\) on shapes \[\(2, 3\)\]"):
        f(torch.zeros(2, 3, dtype=torch.float64))


def test_sizes_are_limited(tmp_path: Path) -> None:
    content = perceptron_file(lambda _: None)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert load_onnx(path, max_bytes=len(content)).output_name == "y"
    for source in (content, path):
        with pytest.raises(ResourceError, match="over the limit"):
            load_onnx(source, max_bytes=len(content) - 1)


def test_external_data(tmp_path: Path) -> None:
    """Beside the file only, and counted in its size."""
    model, inputs = multilayer_perceptron()
    want = reference(model, inputs)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    assert_close(load_onnx(path)(torch.from_numpy(inputs["x"])).detach(), want)
    with pytest.raises(ResourceError):
        load_onnx(path, max_bytes=path.stat().st_size + 1)
    with pytest.raises(UnsupportedError, match="another file"):
        load_onnx(path.read_bytes())
    inside = tmp_path / "below"
    inside.mkdir()
    for location in ("../model.onnx.data", str(tmp_path / "model.onnx.data"), "absent", ""):
        outside = onnx.load(path, load_external_data=False)
        for tensor in outside.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        (inside / "model.onnx").write_bytes(outside.SerializeToString())
        with pytest.raises(SpecError, match="beside the model"):
            load_onnx(inside / "model.onnx")


def test_a_fixed_batch_must_not_mix_rows() -> None:
    """(1, -1, 2) for (n, -1, 2) runs on two samples, and lets each see the other."""
    x = {"x": normal(1, 6)}
    for first, refused in ((1, True), (-1, False)):
        shape = ints(first, 3, 2) if first < 0 else ints(first, -1, 2)
        nodes = [
            make("Reshape", ["x", "shape"], ["h"]),
            make("Softmax", ["h"], ["s"], axis=1),
            make("Reshape", ["s", "flat"], ["y"]),
        ]
        model = file(nodes, x, {"shape": shape, "flat": ints(-1, 6)}, opset=18, fixed=True)
        if refused:
            with pytest.raises(UnsupportedError, match="mix the rows"):
                load_onnx(model.SerializeToString())
        else:
            several = normal(3, 6)
            rows = [reference(model, {"x": row[None]}) for row in several]
            assert_close(ours(model, {"x": several}), np.concatenate(rows))


@pytest.mark.parametrize(
    ("op", "tensors", "attributes", "what"),
    [
        ("Dropout", [np.array(0.5), np.array(True)], {}, "draws"),
        ("ReduceSum", [ints(0)], {}, "rows of output"),
    ],
)
def test_what_is_not_a_function_of_one_sample(
    op: str, tensors: list[Array], attributes: Any, what: str
) -> None:
    f = load_onnx(single(op, X, tensors, 18, attributes).SerializeToString())
    with pytest.raises(EngineError, match=what):
        f(torch.from_numpy(X))


def test_statistics_of_the_batch_are_refused() -> None:
    names = ["scale", "bias", "mean", "var"]
    nodes = [make("BatchNormalization", ["x", *names], ["y", "m", "v"], training_mode=1)]
    f = load_onnx(file(nodes, {"x": X}, {name: positive(4) for name in names}, opset=18).SerializeToString())
    with pytest.raises(UnsupportedError, match="other samples") as caught:
        f(torch.from_numpy(X))
    assert "eval()" in str(caught.value.hint)


def test_second_outputs_are_refused_where_they_are_read() -> None:
    nodes = [make("MaxPool", ["x"], ["p", "where"], kernel_shape=[2]), make("Cast", ["where"], ["y"], to=11)]
    with pytest.raises(UnsupportedError, match="where is read"):
        load_onnx(file(nodes, {"x": V}, {}, opset=18, ndim=3).SerializeToString())


def test_old_versions_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="version 9 to"):
        load_onnx(file([make("Relu", ["x"], ["y"])], {"x": X}, {}, opset=8).SerializeToString())


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UnsupportedError) as caught:
        load_onnx(b"")
    assert caught.value.hint == "pip install 'ntkengine[onnx]'"
