"""The client for programs that wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
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


class Client:
    """The service at an address.

    Arrays go and come as numpy arrays, in binary. A model is an `ntkengine.Model` or a dict in its JSON form.
    Requests are sent again when the connection fails or the service is busy (429, 502, 503), which is safe:
    what starts a job carries an idempotency key, or is known by its content. Errors are `ProblemError` and
    `ConnectionLost`.

    Args:
        url: the service's address; NTK_URL, or http://127.0.0.1:8000.
        key: the bearer key, where the service asks for one; NTK_KEY.
        patience: how long to try.
        transport: how to connect, in place of the network.

    >>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
    ...     run = client.run("quadratic_ntk_10", {"record": [{"what": "loss"}]})
    ...     losses = [event["loss"] for event in run.events() if event.kind == "point"]
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        patience: Patience | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self._ask = Operations(self.patience)
        self._http = httpx.Client(**arguments(url, key), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def kernel(self, model: Any, x1: Any, x2: Any = None, of: Any = None, dtype: str = "float64") -> Kernels:
        """The kernels of a model on inputs (n1, d) and (n2, d), None for x1 with itself.

        Args:
            of: which kernel, `{"kind": "infinite"}` if left out; see `POST /kernel`.
        """
        return self.perform(self._ask.kernel(kernel_spec(model, x1, x2, of, dtype)))

    def kernel_job(
        self, model: Any, x1: Any, x2: Any = None, of: Any = None, dtype: str = "float64"
    ) -> KernelJob:
        """The same as a job of the service, of which parts can be read while it runs."""
        found = self.perform(self._ask.kernel_job(kernel_spec(model, x1, x2, of, dtype)))
        return KernelJob(self, f"/kernels/{found.id}")

    def predict(self, spec: Any) -> Prediction:
        """Training in closed form; `spec` as in `POST /predict`."""
        return self.perform(self._ask.predict(spec))

    def influence(self, spec: Any) -> Influence:
        """What one more training point does; `spec` as in `POST /influence`."""
        return self.perform(self._ask.influence(spec))

    def regime(self, spec: Any) -> Handle:
        """A regime report as a job; `view()["result"]` has it in the end."""
        return Handle(self, f"/regime/{self.perform(self._ask.submit_regime(spec)).id}")

    def sweep(self, spec: Any) -> Sweep:
        """A sweep as a job: a run with every combination of some of its fields' values; `spec` as in
        `POST /sweeps`.
        """
        return Sweep(self, f"/sweeps/{self.perform(self._ask.submit_sweep(spec)).id}")

    def run(self, spec: Any, overrides: Mapping[str, Any] | None = None) -> Run:
        """Start a training run: of a RunSpec, a dict in its JSON form, or an experiment's name, with a merge
        patch of its spec.
        """
        return self.attach(self.perform(self._ask.submit(run_spec(spec, overrides))).id)

    def attach(self, run_id: str) -> Run:
        """A run that was started before."""
        return Run(self, f"/runs/{run_id}")

    def runs(self, **filters: Any) -> Iterator[Job]:
        """All runs, newest first; `status`, `experiment`, `order` as in `GET /runs`."""
        cursor: dict[str, str] = {}
        while True:
            found, following = self.perform(self._ask.page({**filters, **cursor}))
            yield from found
            if following is None:
                return
            cursor = {"cursor": following}

    def experiments(self) -> tuple[Experiment, ...]:
        """The catalogue."""
        return self.perform(self._ask.experiments())

    def usage(self) -> dict[str, Any]:
        """What the key has used of each of its limits, as `GET /usage` has it."""
        return self.perform(self._ask.usage())

    def datasets(self) -> tuple[DatasetInfo, ...]:
        """The data sets that were added."""
        return self.perform(self._ask.datasets())

    def add_dataset(
        self,
        name: str,
        data: str | Path | Mapping[str, Any],
        *,
        y: Sequence[str] = (),
        one_hot: bool = False,
        test_rows: int = 0,
    ) -> DatasetInfo:
        """Keep a data set for later requests, which name it in the place of any array:
        `{"kind": "dataset", "name": name, "split": "train"}`.

        Args:
            data: a file (.csv, .npz, .arrow of the file format, .arrows of the stream format), or arrays by
                name: x (n, ...), and perhaps y (n, k), x_test, y_test.
            y: the columns of a table that are targets; the others are inputs.
            one_hot: y is one label of k; targets are 1 - 1/k at its place and -1/k elsewhere.
            test_rows: how many of the last rows are the split `test`.

        Raises:
            ProblemError: it is no data set, or the name is taken by another one.
        """
        how = {"y": ",".join(y), "one_hot": one_hot, "test_rows": test_rows}
        return self.perform(self._ask.add_dataset(name, *table_of(data), how))

    def remove_dataset(self, name: str) -> None:
        """Remove a data set. A job that needs it and has not ended fails, and says so."""
        self.perform(self._ask.delete(f"/datasets/{name}"))

    def array(self, reference: Mapping[str, Any]) -> Any:
        """The array that an event or a series refers to, `{"kind": "array", "href": ...}`."""
        return self.perform(self._ask.array(reference))

    def perform(self, operation: Operation[T]) -> T:
        """Carry out an operation."""
        try:
            step = next(operation)
            while True:
                step = self._carry(operation, step)
        except StopIteration as end:
            found: T = end.value
            return found

    def _carry(self, operation: Operation[T], step: Request | Wait) -> Request | Wait:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return next(operation)
        try:
            answer = self._http.request(**step.arguments())
        except httpx.TransportError as error:
            return operation.throw(error)
        return operation.send(answer)

    def follow(self, path: str, after: int = -1) -> Iterator[Event]:
        """The events of a job, however often the connection is lost."""
        feed = Feed(path, after, self.patience)
        while not feed.ended:
            lost = None
            try:
                yield from self._connected(feed)
            except httpx.TransportError as error:
                lost = error
            if not feed.ended:
                time.sleep(feed.lose(lost))

    def _connected(self, feed: Feed) -> Iterator[Event]:
        with self._http.stream(**feed.request().arguments()) as answer:
            if answer.status_code != 200:
                answer.read()
            if feed.accept(answer):
                yield from filter(None, map(feed.read, answer.iter_lines()))


class Handle:
    """A job of the service."""

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._ask = Operations(client.patience)
        self.path = path

    @property
    def id(self) -> str:
        """Its name."""
        return self.path.rpartition("/")[2]

    def status(self) -> Job:
        """How it stands."""
        return self._client.perform(self._ask.status(self.path))

    def view(self) -> Mapping[str, Any]:
        """All that the service says of it."""
        return self._client.perform(self._ask.view(self.path))

    def events(self, after: int = -1) -> Iterator[Event]:
        """What happens, from the first event or the one after number `after`, until the end. The iterator
        survives lost connections and restarts of the service, without a gap or a duplicate.
        """
        return self._client.follow(self.path, after)

    def wait(self) -> Job:
        """How it ended, once it has.

        Raises:
            ProblemError: it failed.
        """
        return self._client.perform(self._ask.ended(self.path))

    def cancel(self) -> Job:
        """Stop it, keeping what it has."""
        return self._client.perform(self._ask.cancel(self.path))

    def delete(self) -> None:
        """Stop and forget it."""
        self._client.perform(self._ask.delete(self.path))


class Run(Handle):
    """A training run."""

    def series(self, *names: str, **window: int) -> Mapping[str, Series]:
        """What was recorded so far, all of it or some names; `from_step`, `every` and `max_points` as in
        `GET /runs/<id>`.
        """
        return self._client.perform(self._ask.series(self.path, names, window))

    def export(self, form: str = "npz") -> bytes:
        """The run as a file: npz, csv or json."""
        return self._client.perform(self._ask.export(self.path, form))


class Sweep(Handle):
    """A sweep."""

    def table(self) -> Mapping[str, Any]:
        """Its `axes`, the `rows` that are done and, once all are, the `exponents`."""
        found: Mapping[str, Any] = self.view()["result"]
        return found

    def export(self, form: str = "csv") -> bytes:
        """The table as a file: csv or json."""
        return self._client.perform(self._ask.export(self.path, form))


class KernelJob(Handle):
    """A large kernel."""

    def data(self, rows: slice | None = None, cols: slice | None = None, kernel: str | None = None) -> Array:
        """Some of its rows and columns, also while others are being computed; the NTK if it is there, or the
        `kernel` of that name.
        """
        return self._client.perform(self._ask.kernel_data(self.path, rows, cols, kernel))
