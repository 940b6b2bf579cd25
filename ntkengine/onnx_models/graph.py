"""The graph of a file as plain data: nodes, inputs and tensors that reach its first output."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ntkengine.errors import SpecError, UnsupportedError
from ntkengine.onnx_models.node import PRECISION, Node
from ntkengine.onnx_models.operators import SEVERAL_OUTPUTS
from ntkengine.onnx_models.types import FLOAT, tensor_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

STATISTICS = {"BatchNormalization": (3, 4)}  # inputs that were measured, not trained


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input: its sizes, None where the file leaves them open."""

    name: str
    dims: tuple[int | None, ...]
    dtype: int


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in the order in which they run, and what they read."""

    nodes: tuple[Node, ...]
    inputs: tuple[Input, ...]
    output: str
    tensors: Mapping[str, Tensor]
    trained: frozenset[str]

    def uses(self) -> Counter[str]:
        """How often each value is read; the output counts as one reading."""
        return Counter([self.output, *(name for node in self.nodes for name in node.inputs if name)])

    def varying(self) -> frozenset[str]:
        """Values that depend on the inputs' entries, not on their shapes alone."""
        names = {each.name for each in self.inputs}
        for node in self.nodes:
            if node.op not in {"Shape", "Size"} and names.intersection(node.inputs):
                names.update(node.outputs)
        return frozenset(names)


def graph_of(model: ModelProto, trainable: Collection[str] | None) -> Graph:
    """The part of the model that its first output depends on."""
    if not model.graph.output:
        raise SpecError("the file has no output", pointer="/graph/output")
    output = model.graph.output[0].name
    opset = next(each.version for each in model.opset_import if each.domain in {"", "ai.onnx"})
    tensors = {each.name: tensor_of(each) for each in model.graph.initializer}
    given = frozenset(tensors)
    inputs = tuple(input_of(each) for each in model.graph.input if each.name not in given)
    nodes = tuple(node_of(each, opset, tensors) for each in needed(model, output))
    check_outputs(nodes)
    tensors[PRECISION] = torch.zeros(())
    read = {name for node in nodes for name in node.inputs} | {output}
    tensors = {name: tensor for name, tensor in tensors.items() if name in read}
    return Graph(
        nodes=nodes,
        inputs=inputs,
        output=output,
        tensors=tensors,
        trained=trained(nodes, tensors, given, trainable),
    )


def needed(model: ModelProto, output: str) -> list[NodeProto]:
    """Nodes that lead to the output; the file has them in an order in which they can run."""
    wanted, kept = {output}, []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            wanted.update(filter(None, node.input))  # an output that is not there has the same empty name
            kept.append(node)
    return kept[::-1]


def node_of(proto: NodeProto, opset: int, tensors: dict[str, Tensor]) -> Node:
    """A node whose tensors all come by its inputs, so that they follow the module's type and device.

    Those in attributes are added to `tensors`; a cast to float32 becomes a cast to the type of `PRECISION`.
    """
    from onnx.helper import get_attribute_value

    attributes = {each.name: plain(get_attribute_value(each)) for each in proto.attribute}
    output = next(filter(None, proto.output))
    value = f"{output} value"
    node = Node(
        op=proto.op_type,
        label=proto.name or f"that of {output}",
        opset=opset,
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes=attributes,
    )
    if node.op == "Cast" and node.get("to") == FLOAT:
        return replace(node, op="CastLike", inputs=(*node.inputs, PRECISION))
    if node.op == "Constant":
        tensors[value] = constant(node)
        return replace(node, op="Identity", inputs=(value,))
    if node.op == "ConstantOfShape":
        tensors[value] = tensor_of(node.get("value")) if "value" in attributes else torch.zeros(1)
        return replace(node, inputs=(*node.inputs, value))
    return node


def plain(value: Any) -> Any:
    """Strings as strings, repeated fields as lists."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return [plain(each) for each in value] if isinstance(value, list) else value


def constant(node: Node) -> Tensor:
    """The one attribute that a Constant has."""
    kinds = {"value_float": torch.float32, "value_floats": torch.float32}
    kinds |= {"value_int": torch.int64, "value_ints": torch.int64}
    ((name, value),) = node.attributes.items()
    if name == "value":
        return tensor_of(value)
    if name not in kinds:
        raise UnsupportedError(f"node {node.label} (Constant): {name} has no rule", pointer="/graph/node")
    return torch.tensor(value, dtype=kinds[name])


def input_of(proto: ValueInfoProto) -> Input:
    """An input, which must be a tensor with samples along its first axis."""
    tensor = proto.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    if not proto.type.HasField("tensor_type") or not tensor.HasField("shape") or not dims:
        raise UnsupportedError(
            f"input {proto.name} must be a tensor whose first axis counts samples", pointer="/graph/input"
        )
    return Input(name=proto.name, dims=dims, dtype=tensor.elem_type)


def check_outputs(nodes: tuple[Node, ...]) -> None:
    """Second outputs (masks, indices, statistics) have no rule, and are refused if anything reads them."""
    read = {name for node in nodes for name in node.inputs}
    for node in nodes:
        beyond = read.intersection(node.outputs[1:]) - {""}
        if beyond and node.op not in SEVERAL_OUTPUTS:
            raise UnsupportedError(
                f"node {node.label} ({node.op}): outputs beyond the first have no rule, "
                f"and {', '.join(sorted(beyond))} is read",
                pointer="/graph/node",
            )


def trained(
    nodes: tuple[Node, ...],
    tensors: Mapping[str, Tensor],
    given: Collection[str],
    trainable: Collection[str] | None,
) -> frozenset[str]:
    """Names of the tensors that become parameters."""
    floating = {name for name in given if name in tensors and tensors[name].is_floating_point()}
    if trainable is None:
        measured = {
            node.inputs[place]
            for node in nodes
            for place in STATISTICS.get(node.op, ())
            if node.inputs[place:]
        }
        return frozenset(name for name in floating - measured if tensors[name].ndim)
    wrong = sorted(set(trainable) - floating)
    if wrong:
        raise SpecError(
            f"no tensors of floating type that reach the first output: {', '.join(wrong)}",
            pointer="/trainable",
            hint=f"the file has {', '.join(sorted(floating))}",
        )
    return frozenset(trainable)


def entries(each: Input, rows: int) -> int:
    """Numbers in `rows` samples of an input whose other sizes are all known."""
    return rows * math.prod(size or 0 for size in each.dims[1:])
