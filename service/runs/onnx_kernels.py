"""Kernels of uploaded ONNX files, which are parsed where the kernel is computed: in another process."""

from __future__ import annotations

import time

from ntkengine.onnx_kernels import OnnxKernelSpec, compute_onnx_kernel
from ntkengine.spec import from_jsonable, to_jsonable
from service.encoding import Message
from service.runs.limits import check_json_size, check_onnx_kernel
from service.runs.waiting import Synchronous


def onnx_kernel(request: Message) -> Message:
    """In a computing process: the kernel that the request's header describes, within its limits."""
    begin = time.perf_counter()
    spec = from_jsonable(OnnxKernelSpec, request.header["spec"])
    found = compute_onnx_kernel(spec, **request.header["limits"])
    facts = {name: value for name, value in vars(found).items() if name != "kernels"}
    return Message({**facts, "seconds": time.perf_counter() - begin}, found.kernels)


class OnnxKernels(Synchronous):
    """Computes kernels of ONNX files in other processes, if they are small enough to wait for."""

    async def compute(self, spec: OnnxKernelSpec, *, as_text: bool) -> Message:
        """The kernels by name, and how they were computed; `as_text`: they are to be written as JSON.

        Raises:
            EngineError: the spec does not hold together, or the work is over a limit.
            ServiceError: the computation failed.
        """
        settings = self._settings
        spec.check()
        check_onnx_kernel(spec, settings)
        if as_text:
            check_json_size(spec.pairs() * len(spec.get), settings)
        limits = {"max_flops": settings.max_flops, "max_bytes": settings.max_bytes}
        request = Message({"spec": to_jsonable(spec), "limits": limits})
        return await self._answer(request)
