"""A graph as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from ntkengine.errors import SpecError
from ntkengine.onnx_models.graph import Graph
from ntkengine.onnx_models.layers import Finder, Layer
from ntkengine.onnx_models.node import Node
from ntkengine.onnx_models.operators import OPERATORS

DEEPEST = 16  # names with more dots than this are not taken for paths


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call: of an operator on its inputs, or of a layer of the module on one."""

    node: Node
    run: Callable[..., Any]
    inputs: tuple[str, ...]
    layer: str = ""


class OnnxModule(nn.Module):
    """The first output of an ONNX graph; made by `load_onnx`.

    Attributes:
        inputs: the file's inputs, in its order; `input_names` their names.
        output_name: of the file's first output.
        onnx_names: the file's name of each parameter and buffer.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.inputs = graph.inputs
        self.input_names = tuple(each.name for each in graph.inputs)
        self.output_name = graph.output
        self.onnx_names: dict[str, str] = {}
        self.paths: dict[str, str] = {}  # of the tensors that operators read
        finder = Finder(graph)
        self.steps = tuple(self.step(node, finder.layer(node)) for node in finder.with_biases())
        for name in graph.tensors:
            if name not in self.onnx_names.values():
                self.paths[name] = self.keep(name, graph.tensors[name], name in graph.trained)

    def step(self, node: Node, layer: Layer | None) -> Step:
        if layer is None:
            return Step(node=node, run=OPERATORS[node.op], inputs=node.inputs)
        holder, last = self.place(layer_name(layer.names))
        holder.add_module(last, layer.module)
        path = path_of(self, layer.module)
        self.onnx_names |= {f"{path}.{own}": name for own, name in layer.names.items()}
        return Step(node=node, run=layer.call, inputs=(layer.x,), layer=path)

    def keep(self, name: str, tensor: Tensor, trained: bool) -> str:
        """Make a tensor a parameter or a buffer; its path."""
        holder, last = self.place(name)
        if trained:
            holder.register_parameter(last, nn.Parameter(tensor))
        else:
            holder.register_buffer(last, tensor)
        prefix = path_of(self, holder)
        path = f"{prefix}.{last}" if prefix else last
        self.onnx_names[path] = name
        return path

    def place(self, name: str) -> tuple[nn.Module, str]:
        """Where a tensor or layer of this name goes: the module that holds it, and its name there."""
        parts = name.split(".") if name.count(".") <= DEEPEST else [name.replace(".", "_")]
        holder: nn.Module = self
        for part in parts[:-1]:
            name = part if part in dict(holder.named_children()) else free(holder, part)
            if not hasattr(holder, name):
                holder.add_module(name, nn.Module())
            holder = holder.get_submodule(name)
        return holder, free(holder, parts[-1])

    def forward(self, *values: Tensor, **named: Tensor) -> Tensor:
        """The first output, whose axis 0 is that of the inputs."""
        known = self.given(values, named)
        rows = {len(value) for value in known.values()}
        known |= {name: attrgetter(path)(self) for name, path in self.paths.items()}
        for step in self.steps:
            results = self.call(step, [known[name] if name else None for name in step.inputs])
            several = results if isinstance(results, tuple) else (results,)
            known.update(zip(step.node.outputs, several, strict=False))
        y = known[self.output_name]
        if y.ndim == 0 or {len(y)} != rows:
            raise SpecError(
                f"expected as many rows of output as of input ({sorted(rows)}), got shape {tuple(y.shape)}",
                pointer="/graph/output",
                hint="export the model with an open batch, and without sums over it",
            )
        return y

    def given(self, values: Sequence[Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs by name."""
        known = dict(zip(self.input_names, values, strict=False)) | dict(named)
        if known.keys() != set(self.input_names) or len(values) + len(named) != len(known):
            raise SpecError(
                f"expected the inputs {', '.join(self.input_names)}, "
                f"got {len(values)} by place and {sorted(named)} by name",
                pointer="/graph/input",
            )
        return known

    def call(self, step: Step, inputs: list[Tensor | None]) -> Any:
        """Run a step; torch's complaints about shapes and types name the node."""
        layer = [self.get_submodule(step.layer)] if step.layer else []
        try:
            return step.run(step.node, *layer, *inputs)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            shapes = [None if each is None else tuple(each.shape) for each in inputs]
            raise SpecError(
                f"node {step.node.label} ({step.node.op}) on shapes {shapes}: {error}", pointer="/graph/node"
            ) from error


def layer_name(names: Mapping[str, str]) -> str:
    """`fc` for `fc.weight`, or for a weight without such a name that goes with `fc.bias`."""
    weight, bias = names["weight"], names.get("bias", "")
    stems = [weight.removesuffix(".weight"), bias.removesuffix(".bias"), weight]
    for stem, name in zip(stems, (weight, bias), strict=False):
        if stem != name:
            return stem
    return weight


def free(holder: nn.Module, name: str) -> str:
    """The name, with underscores added until the module has no such attribute; neither empty nor dotted."""
    name = name or "_"
    while hasattr(holder, name):
        name += "_"
    return name


def path_of(root: nn.Module, module: nn.Module) -> str:
    """The dotted path of a module inside another."""
    paths: dict[nn.Module, str] = {each: path for path, each in root.named_modules()}
    return paths[module]
