"""The influence of one more point, computed while the client waits."""

from __future__ import annotations

import time

from starlette.concurrency import run_in_threadpool

from ntkengine.influence import InfluenceSpec, influence
from ntkengine.spec import from_jsonable, to_jsonable
from service.encoding import Message
from service.runs.limits import check_influence, check_model
from service.runs.waiting import Synchronous


def move(request: Message) -> Message:
    """In a computing process: the influence that the header, an InfluenceSpec in JSON, describes."""
    begin = time.perf_counter()
    found = dict(vars(influence(from_jsonable(InfluenceSpec, request.header))))
    facts = {"relative_error": found.pop("relative_error"), "seconds": time.perf_counter() - begin}
    return Message(facts, found)


class Influences(Synchronous):
    """Computes influences in other processes, if they are small enough to wait for."""

    async def compute(self, spec: InfluenceSpec) -> Message:
        """Outputs at the points before and after, measured and predicted.

        Raises:
            EngineError: the spec does not hold together, or the work is over a limit.
            ServiceError: the computation failed.
        """
        await run_in_threadpool(self._check, spec)
        request = Message(to_jsonable(spec))
        return await self._answer(request)

    def _check(self, spec: InfluenceSpec) -> None:
        check_model(spec.model, self._settings)  # first: the rest takes longer the larger it is
        spec.check()
        check_influence(spec, self._settings)
