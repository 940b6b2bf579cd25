"""Closed-form training, computed while the client waits."""

from __future__ import annotations

import time

from starlette.concurrency import run_in_threadpool

from ntkengine.predict import PredictSpec, compute_prediction
from ntkengine.spec import from_jsonable, to_jsonable
from service.encoding import Message
from service.runs.limits import check_json_size, check_model, check_prediction
from service.runs.waiting import Synchronous


def predict(request: Message) -> Message:
    """In a computing process: the prediction that the request's header, a PredictSpec in JSON, describes."""
    begin = time.perf_counter()
    found = compute_prediction(from_jsonable(PredictSpec, request.header))
    facts = {name: value for name, value in vars(found).items() if name != "arrays"}
    return Message({**facts, "seconds": time.perf_counter() - begin}, found.arrays)


class Predictions(Synchronous):
    """Computes predictions in other processes, if they are small enough to wait for."""

    async def compute(self, spec: PredictSpec, *, as_text: bool) -> Message:
        """The arrays by name, and what can be said of them; `as_text`: they are to be written as JSON.

        Raises:
            EngineError: the spec does not hold together, or the work is over a limit.
            ServiceError: the computation failed.
        """
        await run_in_threadpool(self._check, spec, as_text)
        request = Message(to_jsonable(spec))
        return await self._answer(request)

    def _check(self, spec: PredictSpec, as_text: bool) -> None:
        if spec.model is not None:
            check_model(spec.model, self._settings)  # first: the rest takes longer the larger it is
        spec.check()
        check_prediction(spec, self._settings)
        if as_text:
            check_json_size(spec.plan()["numbers"], self._settings)
