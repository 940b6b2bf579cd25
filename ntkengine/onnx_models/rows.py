"""Do the rows of a file keep to themselves? Asked of a fixed batch, and of nodes that run along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ntkengine.errors import ResourceError, SpecError, UnsupportedError
from ntkengine.onnx_models.graph import Graph, Input, entries
from ntkengine.onnx_models.module import OnnxModule
from ntkengine.onnx_models.operators.recurrent import RECURRENT
from ntkengine.onnx_models.types import dtype_of

if TYPE_CHECKING:
    from onnx import ModelProto

MAX_ENTRIES = 2**24  # of inputs that are tried

HINT = (
    "export with an open batch: torch.onnx.export(..., dynamic_shapes=({0: torch.export.Dim('batch')},)), "
    "or dynamic_axes={'x': {0: 'batch'}} with dynamo=False"
)


def check_rows(module: OnnxModule, inputs: Sequence[Input]) -> None:
    """Refuse a file exported at a fixed batch whose shapes would mix the rows of any other.

    Such a file may say "reshape to (1, -1, 8)" where it means "to (n, -1, 8)": with two samples that runs,
    and is wrong. So two rows are tried, together and alone.
    """
    if all(each.dims[0] is None for each in inputs):
        return
    if any(size is None for each in inputs for size in each.dims[1:]):
        raise UnsupportedError("a batch that is fixed while other sizes are open has no rule", hint=HINT)
    size = sum(entries(each, 2) for each in inputs)
    if size > MAX_ENTRIES:
        raise ResourceError(
            f"trying a fixed batch takes {size} entries, over {MAX_ENTRIES}",
            estimate={"entries": size},
            limit={"entries": MAX_ENTRIES},
            hint=HINT,
        )
    both = [two_rows(each, seed) for seed, each in enumerate(inputs)]
    with torch.no_grad():
        alone = torch.cat([outputs(module, [x[row : row + 1] for x in both]) for row in (0, 1)])
        together = outputs(module, both)
    if together.shape != alone.shape or not torch.allclose(together, alone, 1e-3, 1e-5, equal_nan=True):
        raise UnsupportedError(
            "the file's shapes are fixed to its batch, and mix the rows of others", hint=HINT
        )


def check_time(graph: Graph, model: ModelProto) -> None:
    """Refuse recurrent nodes whose steps are the rows, as far as the model's names of open sizes tell.

    Torch's recurrent modules are such without `batch_first`.
    """
    recurrent = [node for node in graph.nodes if node.op in RECURRENT]
    if not recurrent:
        return

    from onnx.shape_inference import infer_shapes

    inferred = infer_shapes(model).graph
    sizes = {
        each.name: [dim.dim_param for dim in each.type.tensor_type.shape.dim]
        for each in (*inferred.input, *inferred.value_info)
    }
    rows = {size for each in graph.inputs for size in sizes[each.name][:1] if size}
    for node in recurrent:
        time = node.get("layout", 0)
        if rows.intersection(sizes.get(node.inputs[0], [])[time : time + 1]):
            raise node.unsupported(
                "it runs along axis 0 of the inputs, which counts samples",
                "build the model with batch_first=True, or transpose its input before it",
            )


def two_rows(each: Input, seed: int) -> Tensor:
    """Two different samples; integers are 0 and 1, which every table of embeddings has."""
    dtype = dtype_of(each.dtype, f"input {each.name}")
    shape = (2, *(size or 0 for size in each.dims[1:]))
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return uniform.to(dtype) if dtype.is_floating_point else uniform.round().to(dtype)


def outputs(module: OnnxModule, x: Sequence[Tensor]) -> Tensor:
    """Those of one row or two, or a refusal that says that the file's batch is another."""
    try:
        return module(*x)  # type: ignore[no-any-return]
    except SpecError as error:
        raise UnsupportedError(f"the file runs on its own batch only: {error}", hint=HINT) from error
