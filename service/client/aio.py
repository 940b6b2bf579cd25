"""The client for programs on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from service.client.feed import Feed
from service.client.operations import Operation, Operations, Patience, Wait
from service.client.requests import Request
from service.client.results import (
    Array,
    DatasetInfo,
    Event,
    Experiment,
    Influence,
    Job,
    Kernels,
    Prediction,
    Series,
)
from service.client.settings import arguments, kernel_spec, run_spec, table_of

T = TypeVar("T")


class AsyncClient:
    """`Client` for an event loop: the same methods, to be awaited; `events` and `runs` to be iterated with
    `async for`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        patience: Patience | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self._ask = Operations(self.patience)
        self._http = httpx.AsyncClient(**arguments(url, key), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def kernel(
        self, model: Any, x1: Any, x2: Any = None, of: Any = None, dtype: str = "float64"
    ) -> Kernels:
        """The kernels of a model on inputs (n1, d) and (n2, d), None for x1 with itself.

        Args:
            of: which kernel, `{"kind": "infinite"}` if left out; see `POST /kernel`.
        """
        return await self.perform(self._ask.kernel(kernel_spec(model, x1, x2, of, dtype)))

    async def kernel_job(
        self, model: Any, x1: Any, x2: Any = None, of: Any = None, dtype: str = "float64"
    ) -> AsyncKernelJob:
        """The same as a job of the service, of which parts can be read while it runs."""
        found = await self.perform(self._ask.kernel_job(kernel_spec(model, x1, x2, of, dtype)))
        return AsyncKernelJob(self, f"/kernels/{found.id}")

    async def predict(self, spec: Any) -> Prediction:
        """Training in closed form; `spec` as in `POST /predict`."""
        return await self.perform(self._ask.predict(spec))

    async def influence(self, spec: Any) -> Influence:
        """What one more training point does; `spec` as in `POST /influence`."""
        return await self.perform(self._ask.influence(spec))

    async def regime(self, spec: Any) -> AsyncHandle:
        """A regime report as a job; `view()["result"]` has it in the end."""
        return AsyncHandle(self, f"/regime/{(await self.perform(self._ask.submit_regime(spec))).id}")

    async def sweep(self, spec: Any) -> AsyncSweep:
        """A sweep as a job: a run with every combination of some of its fields' values; `spec` as in
        `POST /sweeps`.
        """
        return AsyncSweep(self, f"/sweeps/{(await self.perform(self._ask.submit_sweep(spec))).id}")

    async def run(self, spec: Any, overrides: Mapping[str, Any] | None = None) -> AsyncRun:
        """Start a training run: of a RunSpec, a dict in its JSON form, or an experiment's name, with a merge
        patch of its spec.
        """
        return self.attach((await self.perform(self._ask.submit(run_spec(spec, overrides)))).id)

    def attach(self, run_id: str) -> AsyncRun:
        """A run that was started before."""
        return AsyncRun(self, f"/runs/{run_id}")

    async def runs(self, **filters: Any) -> AsyncIterator[Job]:
        """All runs, newest first; `status`, `experiment`, `order` as in `GET /runs`."""
        cursor: dict[str, str] = {}
        while True:
            found, following = await self.perform(self._ask.page({**filters, **cursor}))
            for job in found:
                yield job
            if following is None:
                return
            cursor = {"cursor": following}

    async def experiments(self) -> tuple[Experiment, ...]:
        """The catalogue."""
        return await self.perform(self._ask.experiments())

    async def usage(self) -> dict[str, Any]:
        """What the key has used of each of its limits, as `GET /usage` has it."""
        return await self.perform(self._ask.usage())

    async def datasets(self) -> tuple[DatasetInfo, ...]:
        """The data sets that were added."""
        return await self.perform(self._ask.datasets())

    async def add_dataset(
        self,
        name: str,
        data: str | Path | Mapping[str, Any],
        *,
        y: Sequence[str] = (),
        one_hot: bool = False,
        test_rows: int = 0,
    ) -> DatasetInfo:
        """Keep a data set for later requests, as `Client.add_dataset`; the file is read at once."""
        how = {"y": ",".join(y), "one_hot": one_hot, "test_rows": test_rows}
        return await self.perform(self._ask.add_dataset(name, *table_of(data), how))

    async def remove_dataset(self, name: str) -> None:
        """Remove a data set. A job that needs it and has not ended fails, and says so."""
        await self.perform(self._ask.delete(f"/datasets/{name}"))

    async def array(self, reference: Mapping[str, Any]) -> Any:
        """The array that an event or a series refers to, `{"kind": "array", "href": ...}`."""
        return await self.perform(self._ask.array(reference))

    async def perform(self, operation: Operation[T]) -> T:
        """Carry out an operation."""
        carry: Callable[[], Request | Wait] = partial(next, operation)
        try:
            while True:
                carry = await self._carried(operation, carry())
        except StopIteration as end:
            found: T = end.value
            return found

    async def _carried(self, operation: Operation[T], step: Request | Wait) -> Callable[[], Request | Wait]:
        """What goes on with the operation after a step; called elsewhere, as no coroutine may end by
        StopIteration.
        """
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return partial(next, operation)
        try:
            answer = await self._http.request(**step.arguments())
        except httpx.TransportError as error:
            return partial(operation.throw, error)
        return partial(operation.send, answer)

    async def follow(self, path: str, after: int = -1) -> AsyncIterator[Event]:
        """The events of a job, however often the connection is lost."""
        feed = Feed(path, after, self.patience)
        while not feed.ended:
            lost = None
            try:
                async for event in self._connected(feed):
                    yield event
            except httpx.TransportError as error:
                lost = error
            if not feed.ended:
                await asyncio.sleep(feed.lose(lost))

    async def _connected(self, feed: Feed) -> AsyncIterator[Event]:
        async with self._http.stream(**feed.request().arguments()) as answer:
            if answer.status_code != 200:
                await answer.aread()
            if feed.accept(answer):
                async for line in answer.aiter_lines():
                    if event := feed.read(line):
                        yield event


class AsyncHandle:
    """A job of the service."""

    def __init__(self, client: AsyncClient, path: str) -> None:
        self._client = client
        self._ask = Operations(client.patience)
        self.path = path

    @property
    def id(self) -> str:
        """Its name."""
        return self.path.rpartition("/")[2]

    async def status(self) -> Job:
        """How it stands."""
        return await self._client.perform(self._ask.status(self.path))

    async def view(self) -> Mapping[str, Any]:
        """All that the service says of it."""
        return await self._client.perform(self._ask.view(self.path))

    def events(self, after: int = -1) -> AsyncIterator[Event]:
        """What happens, from the first event or the one after number `after`, until the end. The iterator
        survives lost connections and restarts of the service, without a gap or a duplicate.
        """
        return self._client.follow(self.path, after)

    async def wait(self) -> Job:
        """How it ended, once it has.

        Raises:
            ProblemError: it failed.
        """
        return await self._client.perform(self._ask.ended(self.path))

    async def cancel(self) -> Job:
        """Stop it, keeping what it has."""
        return await self._client.perform(self._ask.cancel(self.path))

    async def delete(self) -> None:
        """Stop and forget it."""
        await self._client.perform(self._ask.delete(self.path))


class AsyncRun(AsyncHandle):
    """A training run."""

    async def series(self, *names: str, **window: int) -> Mapping[str, Series]:
        """What was recorded so far, all of it or some names; `from_step`, `every` and `max_points` as in
        `GET /runs/<id>`.
        """
        return await self._client.perform(self._ask.series(self.path, names, window))

    async def export(self, form: str = "npz") -> bytes:
        """The run as a file: npz, csv or json."""
        return await self._client.perform(self._ask.export(self.path, form))


class AsyncSweep(AsyncHandle):
    """A sweep."""

    async def table(self) -> Mapping[str, Any]:
        """Its `axes`, the `rows` that are done and, once all are, the `exponents`."""
        found: Mapping[str, Any] = (await self.view())["result"]
        return found

    async def export(self, form: str = "csv") -> bytes:
        """The table as a file: csv or json."""
        return await self._client.perform(self._ask.export(self.path, form))


class AsyncKernelJob(AsyncHandle):
    """A large kernel."""

    async def data(
        self, rows: slice | None = None, cols: slice | None = None, kernel: str | None = None
    ) -> Array:
        """Some of its rows and columns, also while others are being computed; the NTK if it is there, or the
        `kernel` of that name.
        """
        return await self._client.perform(self._ask.kernel_data(self.path, rows, cols, kernel))
