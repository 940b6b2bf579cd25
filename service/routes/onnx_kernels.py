"""Kernels of models saved as ONNX files."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Body, Request, Response
from starlette.concurrency import run_in_threadpool

from ntkengine.onnx_kernels import OnnxKernelSpec
from service.routes.body import JSONRoute
from service.routes.documentation import JSON_OR_FORM, problems
from service.routes.forms import Files, arrays, form_documentation, onnx_file
from service.routes.kernels import BINARY, BY_MEDIA, JSON, NPY, NPZ, KernelAnswer
from service.routes.negotiation import negotiate
from service.routes.services import UseServices


class OnnxRoute(JSONRoute):
    """The model and its inputs may be files."""

    files: ClassVar[Files] = {**onnx_file("/onnx"), **arrays("/x1", "/x2")}


router = APIRouter(tags=["kernels"], route_class=OnnxRoute)

# y = x W, with W = (1, 2): its kernel is that of the inputs.
EXAMPLE: Any = {
    "summary": "A linear model in a file of 100 bytes",
    "value": {
        "onnx": "CAg6WwoTCgF4CgFXEgF5IgZNYXRNdWw6ABIDbmV0KhMIAggBEAEiCAAAgD8AAABAQgFXWhQK"
        "AXgSDwoNCAESCQoDEgFuCgIIAmIUCgF5Eg8KDQgBEgkKAxIBbgoCCAFCBAoAEBE=",
        "x1": [[1.0, 0.0], [0.6, 0.8]],
    },
}


@router.post(
    "/kernel/onnx",
    summary="Compute the kernel of an ONNX file",
    response_model=KernelAnswer,
    responses={
        200: {"description": "The kernels, as `POST /kernel` gives them.",
              "content": {NPY: BINARY, NPZ: BINARY}},
        **problems(*JSON_OR_FORM, "not-acceptable", "worker-died", "unavailable"),
    },
    openapi_extra=form_documentation(OnnxRoute.files, {"outputs": "mean"}),
)  # fmt: skip
async def onnx_kernel(
    request: Request,
    spec: Annotated[OnnxKernelSpec, Body(openapi_examples={"linear": EXAMPLE})],
    parts: UseServices,
) -> Response:
    """The empirical kernel of an existing model, at the weights in its file.

    The file is parsed, never executed, and its nodes are looked up in a table of operators; unknown ones are
    refused by name. Exported torch programs and pickled modules are not read: export them by
    `torch.onnx.export(..., optimize=False)`. Where it optimizes, it joins tensors of equal values and folds
    batch norms, and the kernel is another one than that of the torch module.
    """
    media = negotiate(request, [JSON, NPY, NPZ])
    answer = await parts.onnx_kernels.compute(spec, as_text=media == JSON)
    return await run_in_threadpool(BY_MEDIA[media], answer, parts.settings)
