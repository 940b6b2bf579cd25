"""From bytes to a checked ONNX model, or a refusal that says what to do. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ntkengine.errors import ResourceError, SpecError, UnsupportedError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

OLDEST_OPSET = 9

EXPORT = (
    "export the model where it was made: torch.onnx.export(model, (x,), 'model.onnx', external_data=False, "
    "optimize=False, dynamic_shapes=({0: torch.export.Dim('batch')},)), and give the file model.onnx"
)

# What is refused by its first bytes: these formats unpickle, or may, when they are loaded.
FOREIGN = {
    b"PK\x03\x04": "a zip archive (torch.save, torch.export and TorchScript write those)",
    b"\x80": "a pickle",
    b"\x89HDF": "an HDF5 file",
}


def read(source: bytes | Path, max_bytes: int) -> ModelProto:
    """The model, with its operators known, its tensors inside and its shapes consistent."""
    require_onnx()
    content = contents(source, max_bytes)
    for start, what in FOREIGN.items():
        if content.startswith(start):
            raise UnsupportedError(f"this is {what}, not an ONNX file", hint=EXPORT)
    model = parsed(content)
    check_opset(model)
    check_operators(model)
    take_in_external_data(model, source, max_bytes - len(content))
    check(model)
    return model


def require_onnx() -> None:
    """Say how to install the library if it is missing."""
    try:
        import onnx  # noqa: F401  # asked for, to be missed here rather than half-way
    except ImportError as error:
        raise UnsupportedError(
            "reading ONNX files needs the library onnx", hint="pip install 'ntkengine[onnx]'"
        ) from error


def contents(source: bytes | Path, max_bytes: int) -> bytes:
    """What `source` holds; a file over the limit is not read."""
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    check_size(size, max_bytes)
    return source.read_bytes() if isinstance(source, Path) else source


def check_size(size: int, max_bytes: int) -> None:
    """Refuse more bytes than allowed."""
    if size > max_bytes:
        raise ResourceError(
            f"the model has {size} bytes, over the limit of {max_bytes}",
            estimate={"bytes": size},
            limit={"bytes": max_bytes},
            hint="raise max_bytes, or export a smaller model",
        )


def parsed(content: bytes) -> ModelProto:
    """The protocol buffer, unchecked."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import ModelProto

    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise UnsupportedError("this is not an ONNX file", hint=EXPORT) from error
    if not model.graph.node:
        raise UnsupportedError("this is not an ONNX file: it has no graph of nodes", hint=EXPORT)
    return model


def check_opset(model: ModelProto) -> None:
    """Refuse versions older or newer than the rules."""
    from onnx.defs import onnx_opset_version

    newest = onnx_opset_version()
    versions = [each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}]
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        raise UnsupportedError(
            f"expected one operator set of version {OLDEST_OPSET} to {newest}, got {versions}",
            hint="convert the file with onnx.version_converter, or export it with opset_version=18",
        )


def qualified(node: NodeProto) -> str:
    """`Gemm`, `com.microsoft::Gelu`."""
    standard = node.domain in {"", "ai.onnx"}
    return node.op_type if standard else f"{node.domain}::{node.op_type}"


def check_operators(model: ModelProto) -> None:
    """Refuse all unknown operators at once, each with its nodes."""
    from ntkengine.onnx_models.operators import OPERATORS

    unknown: dict[str, list[str]] = {}
    for node in model.graph.node:
        if qualified(node) not in OPERATORS:
            unknown.setdefault(qualified(node), []).append(node.name or f"that of {', '.join(node.output)}")
    if unknown:
        named = "; ".join(f"{op} (nodes {', '.join(nodes)})" for op, nodes in unknown.items())
        raise UnsupportedError(
            f"operators without a rule: {named}",
            pointer="/graph/node",
            hint=f"known are {', '.join(sorted(OPERATORS))}; rewrite the model with those, "
            "or inline its functions with onnx.inliner.inline_local_functions",
        )


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """All that the nodes read: initializers, and tensors in attributes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def take_in_external_data(model: ModelProto, source: bytes | Path, max_bytes: int) -> None:
    """Read tensors that are kept in files of the model's own directory."""
    from onnx.checker import ValidationError
    from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

    outside = [tensor for tensor in tensors(model) if uses_external_data(tensor)]
    if not outside:
        return
    if not isinstance(source, Path):
        raise UnsupportedError(
            f"tensors are kept in another file: {', '.join(tensor.name for tensor in outside)}", hint=EXPORT
        )
    names = {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"}
    for name in sorted(names):
        beside(source, name)
    check_size(sum(source.with_name(name).stat().st_size for name in names), max_bytes)
    for tensor in outside:
        try:
            load_external_data_for_tensor(tensor, str(source.parent))
        except (ValidationError, ValueError, OSError) as error:
            raise SpecError(
                f"external data of {tensor.name}: {error}", pointer="/graph/initializer"
            ) from error
        tensor.data_location = tensor.DEFAULT
        del tensor.external_data[:]


def beside(source: Path, name: str) -> None:
    """Refuse names that lead out of the model's directory, and files that are not there."""
    file = source.with_name(name) if name and Path(name).name == name else None
    if file is None or file.is_symlink() or not file.is_file():
        raise SpecError(
            f"external data must be a file beside the model, got {name!r}",
            pointer="/graph/initializer",
            hint=EXPORT,
        )


def check(model: ModelProto) -> None:
    """Refuse what the checker and strict shape inference find."""
    from onnx import checker, shape_inference

    if model.graph.sparse_initializer or model.functions:
        raise UnsupportedError("sparse tensors and functions of the file's own have no rule", hint=EXPORT)
    try:
        checker.check_model(model, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError, ValueError) as error:
        raise SpecError(f"the file contradicts itself: {error}", pointer="/graph") from error
