"""Nodes whose weights nothing else reads, as torch's own layers, which kernels know how to take apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from ntkengine.onnx_models.graph import Graph
from ntkengine.onnx_models.node import Node
from ntkengine.onnx_models.operators.convolution import padded, strides_and_dilations
from ntkengine.onnx_models.operators.shaping import from_the_front


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A torch layer in the place of a node."""

    module: nn.Module
    names: Mapping[str, str]  # the file's name of each of its tensors
    call: Callable[[Node, nn.Module, Tensor], Tensor]
    x: str  # the input it is applied to


class Finder:
    """Says which nodes can be layers: those whose tensors are trained and theirs alone."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.uses = graph.uses()
        self.varying = graph.varying()

    def own(self, name: str, ndim: int | None = None) -> Tensor | None:
        """The trained tensor of this name, if one node reads it, once, and it has `ndim` axes."""
        if name not in self.graph.trained or self.uses[name] != 1:
            return None
        tensor = self.graph.tensors[name]
        return tensor if ndim in {None, tensor.ndim} else None

    def layer(self, node: Node) -> Layer | None:
        """The layer that does what the node does, if there is one."""
        rule = LAYERS.get(node.op)
        return rule(self, node) if rule else None

    def linear(self, x: str, weight: str, bias: str, *, transposed: bool) -> Layer | None:
        """`y = x W^T + b`; `transposed` if the file has W^T."""
        W = self.own(weight, 2)
        if W is None or x not in self.varying:
            return None
        W = W.T.contiguous() if transposed else W
        b = self.own(bias, 1)
        if bias and (b is None or len(b) != len(W)):
            return None
        module = nn.Linear(W.shape[1], W.shape[0], bias=b is not None, device="meta")
        return Layer(module=filled(module, W, b), names=named(weight, bias), call=applied, x=x)

    def gemm(self, node: Node) -> Layer | None:
        x, weight, bias = (*node.inputs, "")[:3]
        scaled = (node.get("alpha", 1.0), node.get("beta", 1.0)) != (1.0, 1.0)
        if scaled or node.get("transA", 0):
            return None
        return self.linear(x, weight, bias, transposed=not node.get("transB", 0))

    def matmul(self, node: Node) -> Layer | None:
        """A third input is the bias of an Add that `with_biases` has drawn in."""
        x, weight, bias = (*node.inputs, "")[:3]
        return self.linear(x, weight, bias, transposed=True)

    def conv(self, node: Node) -> Layer | None:
        x, weight, bias = (*node.inputs, "")[:3]
        W, b = self.own(weight), self.own(bias, 1)
        if W is None or x not in self.varying or (bias and b is None) or W.ndim - 2 not in CONVS:
            return None
        strides, dilations = strides_and_dilations(node, W.ndim - 2)
        groups = node.get("group", 1)
        module = CONVS[W.ndim - 2](
            W.shape[1] * groups,
            W.shape[0],
            tuple(W.shape[2:]),
            stride=strides,
            dilation=dilations,
            groups=groups,
            bias=b is not None,
            device="meta",
        )
        return Layer(module=filled(module, W, b), names=named(weight, bias), call=convolved, x=x)

    def gather(self, node: Node) -> Layer | None:
        weight, x = node.inputs
        W = self.own(weight, 2)
        if W is None or node.get("axis", 0) not in {0, -2} or x not in self.varying:
            return None
        module = nn.Embedding(W.shape[0], W.shape[1], device="meta")
        return Layer(module=filled(module, W, None), names=named(weight, ""), call=looked_up, x=x)

    def with_biases(self) -> tuple[Node, ...]:
        """The nodes, with each Add of a bias to a MatMul that can be a layer drawn into it."""
        products = {node.outputs[0]: node for node in self.graph.nodes if node.op == "MatMul"}
        drawn: dict[str, Node] = {}  # by the output of the Add
        gone: set[str] = set()
        for add in (node for node in self.graph.nodes if node.op == "Add"):
            for product, bias in (add.inputs, add.inputs[::-1]):
                whole = self.biased(products[product], bias, add) if product in products else None
                if whole:
                    drawn[add.outputs[0]] = whole
                    gone.add(product)
        return tuple(
            drawn.get(node.outputs[0], node) for node in self.graph.nodes if node.outputs[0] not in gone
        )

    def biased(self, matmul: Node, bias: str, add: Node) -> Node | None:
        """The MatMul with a bias that stands for `add`, if it can be a layer."""
        whole = replace(matmul, label=add.label, inputs=(*matmul.inputs, bias), outputs=add.outputs)
        return whole if self.uses[matmul.outputs[0]] == 1 and self.matmul(whole) else None


LAYERS: Mapping[str, Callable[[Finder, Node], Layer | None]] = {
    "Gemm": Finder.gemm,
    "MatMul": Finder.matmul,
    "Conv": Finder.conv,
    "Gather": Finder.gather,
}

CONVS: Mapping[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def filled(module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """The module with these tensors as its parameters."""
    module.register_parameter("weight", nn.Parameter(weight))
    if bias is not None:
        module.register_parameter("bias", nn.Parameter(bias))
    return module


def named(weight: str, bias: str) -> dict[str, str]:
    """The file's names by the layer's."""
    return {"weight": weight} | ({"bias": bias} if bias else {})


def applied(_: Node, module: nn.Module, x: Tensor) -> Tensor:
    """A layer on its input as it is."""
    return module(x)  # type: ignore[no-any-return]


def convolved(node: Node, module: nn.Module, x: Tensor) -> Tensor:
    """A convolution without padding of its own, on the padded input."""
    weight: Any = module.weight  # a plain tensor where torch.func has put one in its place
    return module(padded(node, x, weight.shape[2:]))  # type: ignore[no-any-return]


def looked_up(_: Node, module: nn.Module, x: Tensor) -> Tensor:
    """Rows of a table; negative indices count from its end."""
    weight: Any = module.weight
    return module(from_the_front(x, weight.shape[0]))  # type: ignore[no-any-return]
