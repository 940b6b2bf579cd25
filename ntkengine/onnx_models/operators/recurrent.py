"""Recurrent layers as loops over time, of operations that `torch.func` can batch and differentiate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ntkengine.onnx_models.node import Node
from ntkengine.onnx_models.operators.elementwise import ELEMENTWISE
from ntkengine.onnx_models.operators.shaping import Operator

# By the name of a direction, for each of its passes: does it begin at the end?
DIRECTIONS: Mapping[str, tuple[bool, ...]] = {
    "forward": (False,),
    "reverse": (True,),
    "bidirectional": (False, True),
}

# The attributes that each activation takes.
ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}

Functions: TypeAlias = Sequence[Callable[[Tensor], Tensor]]
Weights: TypeAlias = tuple[Tensor, Tensor, Tensor]  # R, its bias, and peepholes
State: TypeAlias = tuple[Tensor, ...]


def rnn_cell(_: Node, functions: Functions, weights: Weights, a: Tensor, state: State) -> State:
    """`f(a + R h + b)`; here and below, a is `W x` with its bias."""
    (f,), (R, b), (h,) = functions, weights[:2], state
    return (f(a + h @ R.T + b),)


def gru_cell(node: Node, functions: Functions, weights: Weights, a: Tensor, state: State) -> State:
    """Gates in the order update, reset, hidden; torch's GRU is `linear_before_reset`."""
    (f, g), (R, b), (h,) = functions, weights[:2], state
    (az, ar, ah), (Rz, Rr, Rh), (bz, br, bh) = a.chunk(3, -1), R.chunk(3), b.chunk(3)
    z = f(az + h @ Rz.T + bz)
    r = f(ar + h @ Rr.T + br)
    past = r * (h @ Rh.T + bh) if node.get("linear_before_reset", 0) else (r * h) @ Rh.T + bh
    return ((1 - z) * g(ah + past) + z * h,)


def lstm_cell(node: Node, functions: Functions, weights: Weights, a: Tensor, state: State) -> State:
    """Gates in the order input, output, forget, cell; the first three see the cell through peepholes P."""
    (f, g, to_output), (R, b, P), (h, c) = functions, weights, state
    ai, ao, af, ac = (a + h @ R.T + b).chunk(4, -1)
    Pi, Po, Pf = P.chunk(3)
    i = f(ai + Pi * c)
    kept = 1 - i if node.get("input_forget", 0) else f(af + Pf * c)
    c = kept * c + i * g(ac)
    return f(ao + Po * c) * to_output(c), c


def activations(node: Node, defaults: tuple[str, ...], directions: int) -> list[Functions]:
    """Those of each direction. Each takes the next value of alpha and of beta, if it has such a number."""
    names = node.get("activations", defaults * directions)
    if len(names) != len(defaults) * directions:
        raise node.unsupported(f"expected {len(defaults) * directions} activations, got {len(names)}")
    unknown = sorted(set(names) - set(ACTIVATIONS))
    if unknown:
        raise node.unsupported(
            f"activation {', '.join(unknown)} has no rule", f"known are {', '.join(ACTIVATIONS)}"
        )
    limit = node.get("clip")
    if limit is not None and node.op == "LSTM":
        raise node.unsupported(
            "clip has no rule: ONNX has it bound what goes into h as well, onnxruntime does not",
            "build the model without it, or export each step as operators of its own, with Clip",
        )
    values = {name: list(node.get(f"activation_{name}", ())) for name in ("alpha", "beta")}
    functions = []
    for name in names:
        own = {each: values[each].pop(0) for each in ACTIVATIONS[name] if values[each]}
        function = partial(ELEMENTWISE[name], replace(node, attributes=own))
        functions.append(function if limit is None else clipped(function, limit))
    if any(values.values()):
        raise node.unsupported("its activations take fewer values of alpha or beta than it has")
    return [functions[i : i + len(defaults)] for i in range(0, len(functions), len(defaults))]


def clipped(function: Callable[[Tensor], Tensor], limit: float) -> Callable[[Tensor], Tensor]:
    """The function of what is cut to -limit and limit."""
    return lambda x: function(x.clamp(-limit, limit))


def given(name: str, tensor: Tensor | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """The tensor, zeros if it is left out. Its shape must be this: broadcasting would hide that it is not."""
    if tensor is None:
        return like.new_zeros(shape)
    if tensor.shape != shape:
        raise ValueError(f"expected {name} of shape {shape}, got {tuple(tensor.shape)}")
    return tensor


def unrolled(
    cell: Callable[[Tensor, State], State],
    inputs: Tensor,
    state: State,
    running: Tensor | None,
    backwards: bool,
) -> tuple[Tensor, State]:
    """One pass: the output of each step, and the last state.

    Where a sequence is over (`running` is false), outputs are 0 and the state stays: a pass from the end
    so begins at the end of each sequence.
    """
    outputs = []
    times = range(len(inputs))
    for t in reversed(times) if backwards else times:
        new = cell(inputs[t], state)
        if running is None:
            state = new
            outputs.append(new[0])
        else:
            state = tuple(torch.where(running[t], *pair) for pair in zip(new, state, strict=True))
            outputs.append(torch.where(running[t], new[0], 0.0))
    return torch.stack(outputs[::-1] if backwards else outputs), state


def recurrent(cell: Callable[..., State], gates: int, defaults: tuple[str, ...], states: int = 1) -> Operator:
    """An operator that applies the cell along time, in each direction with weights of its own."""

    def run(
        node: Node,
        x: Tensor,
        W: Tensor,
        R: Tensor,
        B: Tensor | None = None,
        lengths: Tensor | None = None,
        initial_h: Tensor | None = None,
        initial_c: Tensor | None = None,
        P: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        direction = node.get("direction", "forward")
        if direction not in DIRECTIONS:
            raise node.unsupported(f"expected a direction of {', '.join(DIRECTIONS)}, got {direction}")
        # of x the axis of time, of the states that of directions
        layout = node.get("layout", 0)
        x = x.movedim(layout, 0)
        (T, n, d), D = x.shape, len(DIRECTIONS[direction])
        H = node.get("hidden_size", R.shape[-1])
        W = given("W", W, (D, gates * H, d), x)
        R = given("R", R, (D, gates * H, H), x)
        Wb, Rb = given("B", B, (D, 2 * gates * H), x).chunk(2, 1)
        P = given("P", P, (D, 3 * H), x)
        shape = (n, D, H) if layout else (D, n, H)
        starts = [
            given(f"initial_{name}", each, shape, x).unbind(layout)
            for name, each in (("h", initial_h), ("c", initial_c))[:states]
        ]
        running = None
        if lengths is not None:
            lengths = given("sequence_lens", lengths, (n,), x)
            running = (torch.arange(T, device=x.device)[:, None] < lengths)[..., None]
        passes = [
            unrolled(
                partial(cell, node, functions, (R[k], Rb[k], P[k])),
                x @ W[k].T + Wb[k],
                tuple(each[k] for each in starts),
                running,
                DIRECTIONS[direction][k],
            )
            for k, functions in enumerate(activations(node, defaults, D))
        ]
        outputs, ends = zip(*passes, strict=True)
        Y = torch.stack(outputs, 1)
        return (
            Y.permute(2, 0, 1, 3) if layout else Y,
            *(torch.stack(each, layout) for each in zip(*ends, strict=True)),
        )

    return run


RECURRENT: Mapping[str, Any] = {
    "GRU": recurrent(gru_cell, 3, ("Sigmoid", "Tanh")),
    "LSTM": recurrent(lstm_cell, 4, ("Sigmoid", "Tanh", "Tanh"), states=2),
    "RNN": recurrent(rnn_cell, 1, ("Tanh",)),
}
