"""Empirical kernels of models in ONNX files, as one spec: what `POST /kernel/onnx` takes. Torch-free."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ntkengine.data import Array, ArrayField, inputs_shape, load
from ntkengine.empirical import empirical_plan
from ntkengine.empirical.plan import MEMORY_BUDGET
from ntkengine.errors import ResourceError, SpecError, UnsupportedError, located
from ntkengine.kernels import Get, ImplementationName, KernelResult, of_module, result_of
from ntkengine.onnx_models import load_onnx
from ntkengine.outputs import Outputs
from ntkengine.spec import spec

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.onnx_models.module import OnnxModule


@spec
class OnnxKernelSpec:
    """The kernel of a model in an ONNX file, at the weights in the file."""

    onnx: Annotated[str, Field(min_length=4)]
    """The file in base64; in a form, a part of its own."""
    x1: ArrayField
    """Inputs (n1, ...) as the model's only input takes them; images have their channels first."""
    x2: ArrayField | None = None
    """Inputs (n2, ...); null is x1 with itself."""
    get: Get = ("ntk",)
    """Which kernels; `nngp` is the second moment of this network's outputs."""
    outputs: Outputs = "mean"
    """What is kept of the k x k block of a pair: `full`, `trace`, `mean` (trace / k) or `diagonal`."""
    implementation: ImplementationName = "auto"
    """How it is computed; `auto` takes the cheapest."""
    trainable: tuple[str, ...] | None = None
    """Names of the file's tensors that are trained; null is all weights that reach its first output."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision of the computation."""

    def check(self) -> None:
        """Check what needs no look into the file. Torch-free.

        Raises:
            SpecError: with the pointer of the field that does not fit.
        """
        in_shape = inputs_shape(self.x1, "/x1")[1:]
        if self.x2 is not None and inputs_shape(self.x2, "/x2")[1:] != in_shape:
            raise SpecError(
                f"inputs of x1 have shape {in_shape}, those of x2 {inputs_shape(self.x2, '/x2')[1:]}",
                pointer="/x2",
                hint="give both the same shape but for the number of rows",
            )
        self.file()

    def file(self) -> bytes:
        """The bytes of the file."""
        return file_of(self.onnx)

    def pairs(self) -> int:
        """Pairs of inputs."""
        rows = inputs_shape(self.x1, "/x1")[0]
        return rows * (rows if self.x2 is None else inputs_shape(self.x2, "/x2")[0])


def file_of(onnx: str) -> bytes:
    """The bytes of a file that was sent in base64, in the field `onnx`."""
    try:
        return base64.b64decode(onnx, validate=True)
    except binascii.Error as error:
        raise SpecError(
            f"this is no base64: {error}", pointer="/onnx", hint="send the file as a part of a form"
        ) from None


def compute_onnx_kernel(
    spec: OnnxKernelSpec, *, max_flops: float = math.inf, max_bytes: int = MEMORY_BUDGET
) -> KernelResult:
    """The kernel of a model in an ONNX file.

    Args:
        max_flops, max_bytes: refuse more estimated work, or memory, than this.

    Raises:
        EngineError: the file has an operator without a rule or is none, the inputs do not fit it, the work is
            over a limit, or the result is unusable.
    """
    spec.check()
    with located("/onnx"):
        module = load_onnx(spec.file(), trainable=spec.trainable)
        module = (module.double() if spec.dtype == "float64" else module.float()).eval()
    x1 = inputs_of(module, load(spec.x1, "x"), spec.dtype, "/x1")
    x2 = None if spec.x2 is None else inputs_of(module, load(spec.x2, "x"), spec.dtype, "/x2")
    plan = empirical_plan(
        module, x1, x2, outputs=spec.outputs, implementation=spec.implementation, budget=max_bytes
    )
    if plan.flops > max_flops:
        raise ResourceError(
            f"about {plan.flops:.2g} flops, at most {max_flops:.2g} are allowed",
            estimate={"flops": plan.flops},
            limit={"flops": max_flops},
            hint="send fewer rows",
        )
    answer = of_module(module, x1, x2, spec.get, spec.outputs, spec.implementation, max_bytes)
    return result_of(answer, plan, spec.outputs, spec.dtype, symmetric=spec.x2 is None)


def inputs_of(module: OnnxModule, array: Array, dtype: str, pointer: str) -> Tensor:
    """An array as the model's input, in its type."""
    import torch

    from ntkengine.onnx_models.types import dtype_of

    if len(module.inputs) != 1:
        raise UnsupportedError(
            f"the model has the inputs {', '.join(module.input_names)}; here it may have one",
            pointer="/onnx",
            hint="use load_onnx and empirical_ntk in Python, which take several by name",
        )
    (wanted,) = module.inputs
    sizes = zip(array.shape[1:], wanted.dims[1:], strict=False)
    if array.ndim != len(wanted.dims) or any(open_ not in {None, size} for size, open_ in sizes):
        raise SpecError(
            f"the input {wanted.name} has shape {_written(wanted.dims)}, got {array.shape}",
            pointer=pointer,
            hint="images have their channels first: (n, C, H, W)",
        )
    kind = dtype_of(wanted.dtype, f"input {wanted.name}")
    return torch.as_tensor(array).to(getattr(torch, dtype) if kind.is_floating_point else kind)


def _written(dims: Sequence[int | None]) -> str:
    return f"(n, {', '.join('any' if size is None else str(size) for size in dims[1:])})"
