"""An ONNX file as a torch module."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ntkengine.onnx_models.module import OnnxModule

MAX_BYTES = 256 * 1024**2


def load_onnx(
    source: bytes | Path, *, trainable: Collection[str] | None = None, max_bytes: int = MAX_BYTES
) -> OnnxModule:
    """The network of an ONNX file: `f(x)`, its first output, at the weights in the file, for inference.

    The kernel is that of the file's tensors. Exporters that optimize change these: torch's folds batch norms
    into convolutions, makes one of tensors with equal values, such as zero biases, and leaves out biases of
    zeros. With `torch.onnx.export(..., optimize=False)` the kernel is that of the torch module, but for the
    row of an embedding's `padding_idx`, which no file tells from others.

    Nothing in the file is executed or unpickled: it is parsed, checked by `onnx.checker` with strict shape
    inference, and its nodes are looked up in a table of operators.

    Args:
        source: the file's contents, or its path; tensors kept beside the file (external data) are read only
            for a path, and only from its own directory.
        trainable: names of initializers that become parameters. By default all of floating type that reach
            the first output, except scalars (rank 0, such as an exponent or an epsilon) and the running
            mean and variance of batch normalisation. A file does not tell a constant tensor of rank 1 or
            more, such as a mask, from a weight: name the weights if it has any.
        max_bytes: the largest size accepted, external data included.

    Returns:
        A module of the inputs in the file's order, `f(x)` or `f(a, b)`, or by name, `f(ids=a, mask=b)`;
        axis 0 of every input and of the output counts samples, images keep their channels first. Its
        parameters are exactly the trained tensors, everything else is a buffer. They carry the file's
        names where torch permits (`fc.weight`); `module.onnx_names` gives the file's name of each. A weight
        used once by Gemm, MatMul, Conv or Gather is that of an `nn.Linear` (transposed to (out, in) where
        the file has (in, out)), `nn.Conv1d` to `nn.Conv3d` or `nn.Embedding`; one not named
        `<layer>.weight` becomes `<name>.weight`, or `<layer>.weight` if its bias is `<layer>.bias`.
        Tensors of LSTM, GRU and RNN stay as the file has them: B has two biases of a gate, and both count.
        `module.double()` also turns the file's constants and casts to float32 into float64.

    Raises:
        UnsupportedError: not an ONNX file, or operators, types or versions without a rule, each by name.
        SpecError: the file contradicts itself, or `trainable` names a tensor it does not have.
        ResourceError: over `max_bytes`.

    Source: the operator definitions of ONNX, versions 9 and later.

    >>> import pytest; _ = pytest.importorskip("onnx")
    >>> import onnx, torch
    >>> graph = onnx.parser.parse_model('''
    ... <ir_version: 8, opset_import: ["" : 17]>
    ... quadratic (float[n, 1] x) => (float[n, 1] y) <float[1, 1] W = {3.0}, float two = {2.0}> {
    ...     h = MatMul(x, W)
    ...     y = Pow(h, two)
    ... }''')
    >>> f = load_onnx(graph.SerializeToString()).double()
    >>> [name for name, _ in f.named_parameters()], f.onnx_names["W.weight"]
    (['W.weight'], 'W')
    >>> f(torch.tensor([[1.0], [2.0]], dtype=torch.float64)).tolist()
    [[9.0], [36.0]]
    """
    from ntkengine.onnx_models.reading import read

    model = read(source, max_bytes)

    from ntkengine.onnx_models.graph import graph_of
    from ntkengine.onnx_models.module import OnnxModule
    from ntkengine.onnx_models.rows import check_rows, check_time

    graph = graph_of(model, trainable)
    check_time(graph, model)
    module = OnnxModule(graph)
    check_rows(module, graph.inputs)
    return module
