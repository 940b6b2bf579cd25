"""Kernels: computed while the client waits, where they are small; what larger ones hold."""

from __future__ import annotations

from ntkengine.errors import ResourceError
from ntkengine.kernels import KernelSpec
from ntkengine.spec import to_jsonable
from service.encoding import Message
from service.runs.kernel_plan import check_parts, has_tiles
from service.runs.limits import check_json_size, check_kernel, check_model, least_numbers
from service.runs.waiting import Synchronous


class Kernels(Synchronous):
    """Computes kernels in other processes, if they are small enough to wait for."""

    async def compute(self, spec: KernelSpec, *, as_text: bool) -> Message:
        """The kernels by name, and how they were computed; `as_text`: they are to be written as JSON.

        The spec has been found to be no job.

        Raises:
            ResourceError: there are too many numbers, or it took too long.
            ServiceError: the computation failed.
        """
        if as_text:
            check_json_size(least_numbers(spec), self._settings)
        request = Message(to_jsonable(spec))
        return await self._answer(request)

    def is_a_job(self, spec: KernelSpec, *, preferred: bool) -> bool:
        """Whether the kernel is left to a job: the client prefers that, or it is too large or unwanted here.

        Raises:
            EngineError: the spec does not hold together, or is over a limit and cannot be a job.
        """
        check_model(spec.model, self._settings)  # first: the rest takes longer the larger the network is
        check_parts(spec)
        try:
            check_kernel(spec, self._settings)
        except ResourceError:
            if has_tiles(spec):
                return True
            raise
        return (preferred or not self._settings.work) and has_tiles(spec)
