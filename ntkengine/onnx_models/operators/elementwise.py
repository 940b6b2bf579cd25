"""Operators that work entry by entry, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ntkengine.onnx_models.node import Node
from ntkengine.onnx_models.operators.shaping import Operator
from ntkengine.onnx_models.types import dtype_of


def plain(function: Callable[..., Tensor]) -> Operator:
    """An operator that has no attributes."""
    return lambda _, *inputs: function(*inputs)


def with_parameters(function: Callable[..., Tensor], **defaults: float) -> Operator:
    """An operator whose attributes are numbers, with ONNX's defaults."""
    return lambda node, x: function(x, **{name: node.number(name, value) for name, value in defaults.items()})


def over_all(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator of any number of inputs, two at a time."""
    return lambda _, *inputs: reduce(function, inputs)


def divide(_: Node, a: Tensor, b: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def remainder(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """With the sign of b, or that of a if `fmod`."""
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


def power(_: Node, x: Tensor, exponent: Tensor) -> Tensor:
    """`x^e`, of the type of x."""
    return torch.pow(x, exponent).to(x.dtype)


def mean(_: Node, *inputs: Tensor) -> Tensor:
    """Of any number of inputs."""
    total: Tensor = reduce(torch.add, inputs)
    return total / len(inputs)


def elu(x: Tensor, alpha: float) -> Tensor:
    """`x` above 0, `alpha (exp(x) - 1)` below."""
    # expm1 where x is positive would overflow, and its derivative turn 0 * inf into nan
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def celu(x: Tensor, alpha: float) -> Tensor:
    """`elu`, continuously differentiable for every alpha."""
    return elu(x / alpha, 1.0) * alpha


def selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    """`elu`, scaled."""
    return gamma * elu(x, alpha)


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`alpha x + beta`, cut to 0 and 1."""
    return (alpha * x + beta).clamp(0, 1)


def swish(x: Tensor, alpha: float) -> Tensor:
    """`x sigmoid(alpha x)`."""
    return x * torch.sigmoid(alpha * x)


def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """`x` above alpha, 0 below."""
    return torch.where(x > alpha, x, torch.zeros_like(x))


def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """`x` above 0, `alpha x` below."""
    return torch.where(x < 0, alpha * x, x)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """`x` above 0, `slope x` below."""
    return torch.where(x < 0, slope * x, x)


def gelu(node: Node, x: Tensor) -> Tensor:
    """`x Phi(x)`, or its approximation by tanh."""
    return functional.gelu(x, approximate=node.get("approximate", "none"))


def clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Limits are attributes before version 11, inputs from then on."""
    if node.opset < 11:
        return x.clamp(node.get("min", -torch.inf), node.get("max", torch.inf))
    x = x if low is None else torch.maximum(x, low.to(x.dtype))
    return x if high is None else torch.minimum(x, high.to(x.dtype))


def is_infinite(node: Node, x: Tensor) -> Tensor:
    """Of the signs that the node looks for."""
    above = torch.isposinf(x) if node.get("detect_positive", 1) else torch.zeros_like(x, dtype=torch.bool)
    return above | torch.isneginf(x) if node.get("detect_negative", 1) else above


def cast(node: Node, x: Tensor) -> Tensor:
    """To the type that the node names."""
    return x.to(dtype_of(node.get("to"), f"the result of node {node.label}"))


def dropout(node: Node, x: Tensor, _: Tensor | None = None, training: Tensor | None = None) -> Tensor:
    """Nothing, since this is inference."""
    if training is not None and bool(training):
        raise node.unsupported("dropout that draws has no rule", "export with training=TrainingMode.EVAL")
    return x


SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}  # as ONNX rounds them

ELEMENTWISE: Mapping[str, Any] = {
    "Abs": plain(torch.abs),
    "Add": plain(torch.add),
    "And": plain(torch.logical_and),
    "Cast": cast,
    "CastLike": lambda _, x, like: x.to(like.dtype),
    "Ceil": plain(torch.ceil),
    "Celu": with_parameters(celu, alpha=1.0),
    "Clip": clip,
    "Cos": plain(torch.cos),
    "Div": divide,
    "Dropout": dropout,
    "Elu": with_parameters(elu, alpha=1.0),
    "Equal": plain(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Gelu": gelu,
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "HardSigmoid": with_parameters(hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": plain(functional.hardswish),
    "Identity": plain(lambda x: x),
    "IsInf": is_infinite,
    "IsNaN": plain(torch.isnan),
    "LeakyRelu": with_parameters(leaky_relu, alpha=0.01),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Log": plain(torch.log),
    "Max": over_all(torch.maximum),
    "Mean": mean,
    "Min": over_all(torch.minimum),
    "Mish": plain(functional.mish),
    "Mod": remainder,
    "Mul": plain(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "PRelu": plain(prelu),
    "Pow": power,
    "Reciprocal": plain(torch.reciprocal),
    "Relu": plain(torch.relu),
    "Selu": with_parameters(selu, **SELU),
    "Sigmoid": plain(torch.sigmoid),
    "Sign": plain(torch.sign),
    "Sin": plain(torch.sin),
    # softplus by torch turns linear above a threshold; this has no threshold, and cannot overflow
    "Softplus": plain(lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "Softsign": plain(functional.softsign),
    "Sqrt": plain(torch.sqrt),
    "Sub": plain(torch.sub),
    "Sum": over_all(torch.add),
    "Swish": with_parameters(swish, alpha=1.0),
    "Tanh": plain(torch.tanh),
    "ThresholdedRelu": with_parameters(thresholded_relu, alpha=1.0),
    "Where": plain(torch.where),
}
