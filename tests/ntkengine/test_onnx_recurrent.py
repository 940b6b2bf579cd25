"""LSTM, GRU and RNN of ONNX files, against ONNX's reference, or a formula where that ignores an attribute."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ntkengine import EngineError, UnsupportedError, empirical_ntk, load_onnx
from ntkengine.onnx_models.module import OnnxModule
from ntkengine.onnx_models.operators.recurrent import ACTIVATIONS
from tests.architectures import reference_jacobian
from tests.compare import assert_close
from tests.onnx_files import Array, file, onnx, reference

make = onnx.helper.make_node

RNG = np.random.default_rng(0)
GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
OUTPUTS = {"GRU": ["Y", "Y_h"], "LSTM": ["Y", "Y_h", "Y_c"], "RNN": ["Y", "Y_h"]}
INPUTS = ["x", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
N, T, D_IN, H = 3, 5, 2, 4


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape)


X = normal(N, T, D_IN)


def tensors(op: str, directions: int = 1, more: str = "B") -> dict[str, Array]:
    """Weights, and those of the other inputs that `more` names."""
    rows = GATES[op] * H
    every = {
        "W": normal(directions, rows, D_IN),
        "R": normal(directions, rows, H),
        "B": normal(directions, 2 * rows),
        "initial_h": normal(directions, N, H),
        "initial_c": normal(directions, N, H),
        "P": normal(directions, 3 * H),
    }
    return {name: every[name] for name in ["W", "R", *more.split()]}


def model(
    op: str,
    given: Mapping[str, Array],
    *,
    inputs: Mapping[str, Array] | None = None,
    opset: int = 22,
    **attributes: Any,
) -> Any:
    """A file whose output has everything that the operator returns, side by side; the rows come first."""
    inputs = inputs or {"x": X}
    by_rows = attributes.get("layout", 0)
    names = [name if name in {**inputs, **given} else "" for name in INPUTS]
    names[0] = "x" if by_rows else "steps"
    while not names[-1]:
        names.pop()
    perms = {name: [1, 0, 2] for name in OUTPUTS[op]} | {"Y": [2, 0, 1, 3]}
    rows_first = [make("Transpose", [name], [f"{name} by rows"], perm=perms[name]) for name in OUTPUTS[op]]
    ends = OUTPUTS[op] if by_rows else [f"{name} by rows" for name in OUTPUTS[op]]
    nodes = [
        make("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        make(op, names, OUTPUTS[op], hidden_size=H, name="cells", **attributes),
        *([] if by_rows else rows_first),
        *(make("Flatten", [name], [f"{name} flat"]) for name in ends),
        make("Concat", [f"{name} flat" for name in ends], ["y"], axis=1),
    ]
    return file(nodes, inputs, given, opset=opset)


def loaded(model: Any) -> OnnxModule:
    return load_onnx(model.SerializeToString())


def ours(model: Any, *inputs: Array) -> torch.Tensor:
    result: torch.Tensor = loaded(model)(*(torch.from_numpy(x) for x in inputs or (X,)))
    return result.detach()


BOTH: dict[str, Any] = {"direction": "bidirectional"}
BY_ROWS = BOTH | {"layout": 1}

CASES = [
    *((op, "B", {"direction": direction}) for op in GATES for direction in ("forward", "reverse")),
    *((op, "B", attributes) for op in GATES for attributes in (BOTH, BY_ROWS)),
    *((op, "", {}) for op in GATES),
    ("LSTM", "B P", BOTH),
    ("LSTM", "P", {}),
    ("GRU", "B", BOTH | {"linear_before_reset": 1}),
]
FROM_STATES = [
    (op, f"B {states}", attributes)
    for op, states in (("LSTM", "initial_h initial_c"), ("GRU", "initial_h"), ("RNN", "initial_h"))
    for attributes in (BOTH, BY_ROWS)
]


def case(op: str, more: str, attributes: Mapping[str, Any]) -> dict[str, Array]:
    """The tensors of a case, with the rows' axis where its layout has it."""
    given = tensors(op, 2 if attributes.get("direction") == "bidirectional" else 1, more)
    swapped = {"initial_h", "initial_c"} if "layout" in attributes else set()
    return {name: each.swapaxes(0, 1) if name in swapped else each for name, each in given.items()}


@pytest.mark.parametrize(("op", "more", "attributes"), [*CASES, *FROM_STATES])
def test_outputs(op: str, more: str, attributes: Any) -> None:
    given = case(op, more, attributes)
    for opset in (14, 22) if "layout" in attributes else (9, 14, 22):
        this = model(op, given, opset=opset, **attributes)
        assert_close(ours(this), reference(this, {"x": X}))


@pytest.mark.parametrize("op", GATES)
def test_sequences_of_different_lengths(op: str) -> None:
    """Each is as if it were alone: outputs behind its end are 0, states are those at its end."""
    given = tensors(op, 2)
    lengths = np.array([5, 2, 3], dtype=np.int32)
    this = model(op, given, inputs={"x": X, "sequence_lens": lengths}, **BOTH)
    got = ours(this, X, lengths)
    for row, length in enumerate(lengths):
        alone = X[row : row + 1, :length]
        (want,) = reference(model(op, given, inputs={"x": alone}, **BOTH), {"x": alone})
        outputs, states = np.split(want, [length * 2 * H])
        behind = np.zeros((T - length) * 2 * H)
        assert_close(got[row], np.concatenate([outputs, behind, states]))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    """Against the same steps as operators of their own."""
    given = tensors("RNN", more="")
    own = dict(zip(ACTIVATIONS[name], (0.3, 0.4), strict=False))
    nodes = [make("Identity", ["zeros"], ["h0"])]
    for t in range(T):
        nodes += [
            make("Gather", ["x", f"t{t}"], [f"x{t}"], axis=1),
            make("MatMul", [f"x{t}", "W"], [f"a{t}"]),
            make("MatMul", [f"h{t}", "R"], [f"b{t}"]),
            make("Add", [f"a{t}", f"b{t}"], [f"c{t}"]),
            make(name, [f"c{t}"], [f"h{t + 1}"], **own),
        ]
    nodes.append(make("Concat", [*(f"h{t + 1}" for t in range(T)), f"h{T}"], ["y"], axis=1))
    steps = {f"t{t}": np.array(t) for t in range(T)}
    weights = {"W": given["W"][0].T, "R": given["R"][0].T, "zeros": np.zeros((N, H))}
    want = reference(file(nodes, {"x": X}, steps | weights, opset=22), {"x": X})
    values: Any = {f"activation_{each}": [value] for each, value in own.items()}
    assert_close(ours(model("RNN", given, activations=[name], **values)), want)


def test_values_go_to_the_activations_that_take_them() -> None:
    """The first alpha is that of the forward pass, the only beta that of the backward one."""
    given = tensors("RNN", 2)
    names = ["Elu", "HardSigmoid"]
    values: Any = {"activation_alpha": [0.7, 0.3], "activation_beta": [0.4]}
    both = model("RNN", given, activations=names, **BOTH, **values)
    first, second = ({name: each[k : k + 1] for name, each in given.items()} for k in (0, 1))
    backward: Any = {"direction": "reverse", "activation_alpha": [0.3], "activation_beta": [0.4]}
    passes = [
        model("RNN", first, activations=["Elu"], activation_alpha=[0.7]),
        model("RNN", second, activations=["HardSigmoid"], **backward),
    ]
    # (rows, steps and the last state, directions, H)
    parts = [ours(each).reshape(N, T + 1, 1, H) for each in passes]
    assert_close(ours(both), torch.cat(parts, dim=2).flatten(1))


def test_activations_of_gates() -> None:
    """f of the gates, g of the new cell, h of the cell: after one step from zeros."""
    given, x = tensors("LSTM"), X[:, :1]
    i, o, _, c = np.split(x[:, 0] @ given["W"][0].T + np.add(*np.split(given["B"][0], 2)), 4, axis=1)
    cell = np.maximum(i, 0) * (c / (1 + np.abs(c)))
    hidden = np.maximum(o, 0) * np.tanh(cell)
    this = model("LSTM", given, inputs={"x": x}, activations=["Relu", "Softsign", "Tanh"])
    assert_close(ours(this, x), np.concatenate([hidden, hidden, cell], axis=1))


def test_coupled_gates() -> None:
    """A forget gate of 1 - i is one with the negative weights of i, as sigmoid(-a) = 1 - sigmoid(a)."""
    given = tensors("LSTM", more="B P")
    other = {name: each.copy() for name, each in given.items()}
    for name in ("W", "R", "B"):
        for part in np.split(other[name], 2 if name == "B" else 1, axis=1):
            part[:, 2 * H : 3 * H] = -part[:, :H]
    other["P"][:, 2 * H :] = -other["P"][:, :H]
    assert_close(ours(model("LSTM", given, input_forget=1)), reference(model("LSTM", other), {"x": X}))


def test_clip() -> None:
    """What goes into activations is cut, in each gate of a GRU."""
    given, limit = tensors("RNN"), 0.5
    W, R, b = given["W"][0], given["R"][0], np.add(*np.split(given["B"][0], 2))
    states = [np.zeros((N, H))]
    for t in range(T):
        states.append(np.tanh(np.clip(X[:, t] @ W.T + states[-1] @ R.T + b, -limit, limit)))
    assert_close(ours(model("RNN", given, clip=limit)), np.concatenate([*states[1:], states[-1]], axis=1))
    given, x = tensors("GRU", more=""), X[:, :1]
    z, _, c = np.split(np.clip(x[:, 0] @ given["W"][0].T, -limit, limit), 3, axis=1)
    state = (1 - 1 / (1 + np.exp(-z))) * np.tanh(c)
    this = model("GRU", given, inputs={"x": x}, clip=limit)
    assert_close(ours(this, x), np.concatenate([state, state], axis=1))


class Cells(nn.Module):
    """Its layers have the rows on the second axis; every step and the last state are read."""

    def __init__(self, cells: Any, **options: Any) -> None:
        super().__init__()
        directions = 2 if options.get("bidirectional") else 1
        self.cells, self.out = cells(D_IN, H, **options), nn.Linear(directions * H, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, state = self.cells(x.transpose(0, 1))
        last = state[0] if isinstance(state, tuple) else state
        return torch.cat([torch.tanh(self.out(y)).mean(0), last[-1]], dim=1)


def exported(module: nn.Module, x: torch.Tensor, path: Path, **axes: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(module.eval(), (x,), path, input_names=["x"], dynamo=False, **axes)
    return path


@pytest.mark.parametrize("cells", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 2, "bias": False}]
)
def test_the_kernel_of_an_exported_module(cells: Any, options: Any, tmp_path: Path) -> None:
    """The file has the module's tensors with their gates in another order: both biases count."""
    torch.manual_seed(0)
    module, x = Cells(cells, **options), torch.from_numpy(X)
    axes = {"x": {0: "batch", 1: "time"}}
    f = load_onnx(exported(module, x.float(), tmp_path / "model.onnx", dynamic_axes=axes)).double()
    module = module.double()
    count, expected = (sum(each.numel() for each in m.parameters()) for m in (f, module))
    assert count == expected
    assert_close(f(x).detach(), module(x).detach())
    assert_close(empirical_ntk(f, x, outputs="full"), empirical_ntk(module, x, outputs="full"))


@pytest.mark.parametrize(("op", "more", "attributes"), CASES)
def test_the_kernel_is_of_the_tensors_of_the_file(op: str, more: str, attributes: Any) -> None:
    given = case(op, more, attributes)
    f, x = loaded(model(op, given, **attributes)), torch.from_numpy(X)
    assert {f.onnx_names[name]: tuple(p.shape) for name, p in f.named_parameters()} == {
        name: each.shape for name, each in given.items()
    }
    J = reference_jacobian(f, x)
    assert_close(empirical_ntk(f, x, outputs="full"), torch.einsum("iap,jbp->ijab", J, J))


def test_the_kernel_of_sequences_of_different_lengths() -> None:
    lengths = torch.tensor([5, 2, 3], dtype=torch.int32)
    given = tensors("LSTM", 2)
    inputs = {"x": X, "sequence_lens": lengths.numpy()}
    f = loaded(model("LSTM", given, inputs=inputs, **BOTH))
    x = (torch.from_numpy(X), lengths)
    J = reference_jacobian(f, x)
    assert_close(empirical_ntk(f, x, outputs="full"), torch.einsum("iap,jbp->ijab", J, J))


def test_outputs_that_are_left_out() -> None:
    """An empty name joins no nodes: what only the other LSTM reads is no parameter."""
    nodes = [
        make("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        make("LSTM", ["steps", "W", "R"], ["", "h"], hidden_size=H),
        make("LSTM", ["steps", "W2", "R2"], ["", "unread"], hidden_size=H),
        make("Squeeze", ["h", "axis"], ["y"]),
    ]
    given = tensors("LSTM", more="")
    unread = {f"{name}2": each for name, each in given.items()}
    this = file(nodes, {"x": X}, given | unread | {"axis": np.array([0])}, opset=22)
    assert set(loaded(this).onnx_names.values()) == {"W", "R", "axis"}
    assert_close(ours(this), ours(model("LSTM", given))[:, T * H : (T + 1) * H])


@pytest.mark.parametrize(
    ("op", "attributes", "words"),
    [
        ("RNN", {"activations": ["Affine"]}, r"node cells \(RNN\): activation Affine has no rule"),
        ("LSTM", {"activations": ["ScaledTanh", "Tanh", "Tanh"]}, "ScaledTanh"),
        ("LSTM", {"clip": 3.0}, r"node cells \(LSTM\): clip has no rule"),
        ("GRU", {"activations": ["Sigmoid"]}, "expected 2 activations, got 1"),
        ("RNN", {"activations": ["Tanh"], "activation_alpha": [0.5]}, "fewer values of alpha"),
        ("RNN", {"direction": "sideways"}, "sideways"),
        ("RNN", {"direction": "bidirectional"}, r"expected W of shape \(2, 4, 2\), got \(1, 4, 2\)"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(op: str, attributes: Any, words: str) -> None:
    f = loaded(model(op, tensors(op), **attributes))
    with pytest.raises(EngineError, match=words):
        f(torch.from_numpy(X))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("R", (1, H, 1)),
        ("B", (1, 2)),
        ("initial_h", (1, 1, H)),
        ("initial_h", (1, N, 1)),
        ("initial_h", (2, N, H)),
    ],
)
def test_tensors_are_not_broadcast(name: str, shape: tuple[int, ...]) -> None:
    f = loaded(model("RNN", tensors("RNN") | {name: normal(*shape)}))
    with pytest.raises(EngineError, match=f"expected {name} of shape"):
        f(torch.from_numpy(X))


@pytest.mark.parametrize("cells", [nn.LSTM, nn.GRU, nn.RNN])
def test_steps_are_no_rows(cells: Any, tmp_path: Path) -> None:
    """Axis 0 counts samples; torch's recurrent modules have time there by default."""

    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.cells = nn.Linear(D_IN, D_IN), cells(D_IN, H)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.cells(torch.tanh(self.before(x)))[0]
            return result

    x, path = torch.from_numpy(X).float(), tmp_path / "model.onnx"
    for axes in ({0: "time"}, {0: "time", 1: "batch"}):
        with pytest.raises(UnsupportedError, match="axis 0 of the inputs") as caught:
            load_onnx(exported(TimeFirst(), x, path, dynamic_axes={"x": axes}))
        assert "batch_first" in str(caught.value.hint)
    with pytest.raises(UnsupportedError, match="mix the rows"):
        load_onnx(exported(TimeFirst(), x, path))
