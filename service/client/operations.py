"""What the client asks of the service, without input and output.

An operation is a generator that yields requests and waits, is sent the answers, and returns the result. The
two clients differ only in how they carry them out.
"""

from __future__ import annotations

import io
import json
import random
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import numpy as np

from service.client.problems import ConnectionLost, ProblemError
from service.client.requests import NPY, NPZ, Request, encode, post
from service.client.results import (
    Array,
    DatasetInfo,
    Experiment,
    Influence,
    Job,
    Kernels,
    Prediction,
    Series,
)

T = TypeVar("T")
JSONObject = dict[str, Any]


@dataclass(frozen=True)
class Wait:
    """Wait before going on."""

    seconds: float


Operation = Generator[Request | Wait, httpx.Response, T]

AGAIN = frozenset({429, 502, 503})
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Patience:
    """How long to try: `tries` of a request, and `stream_seconds` without a connection to a stream.

    A service that asks for more than `longest_wait` seconds is not asked again: where a key has used up its
    day, the program would stand still until tomorrow.
    """

    tries: int = 6
    stream_seconds: float = 300.0
    first_delay: float = 0.2
    longest_delay: float = 10.0
    longest_wait: float = 60.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait after so many failures; spread, so that clients do not come back all at once."""
        return random.uniform(0.5, 1.0) * min(self.longest_delay, self.first_delay * 2.0**attempt)  # noqa: S311


def exchange(request: Request, patience: Patience) -> Operation[httpx.Response]:
    """The answer to a request that may be sent again.

    Raises:
        ProblemError: the service refuses.
        ConnectionLost: it did not answer in all tries.
    """
    for attempt in range(patience.tries):
        is_last = attempt + 1 == patience.tries
        try:
            answer = yield request
        except httpx.TransportError as error:
            if is_last:
                raise ConnectionLost(request.path, error) from error
            yield Wait(patience.delay(attempt))
            continue
        if answer.status_code not in AGAIN or is_last or retry_after(answer) > patience.longest_wait:
            return checked(answer, attempt + 1)
        yield Wait(max(patience.delay(attempt), retry_after(answer)))
    raise ValueError("a client that never tries gets no answer: patience.tries is below 1")


def checked(answer: httpx.Response, tries: int) -> httpx.Response:
    """The answer to so many tries, if it is a success."""
    if not answer.is_success:
        raise ProblemError.of(answer, tries)
    return answer


def retry_after(answer: httpx.Response) -> float:
    """Seconds that the service asks to wait for."""
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isdecimal() else 0.0


def array_of(answer: httpx.Response) -> Array:
    """The array of an `.npy`."""
    found: Array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    return found


def arrays_of(answer: httpx.Response) -> tuple[dict[str, Array], JSONObject]:
    """The arrays of an `.npz`, and what it says about them."""
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    return arrays, json.loads(arrays.pop("about").item())


KERNEL_PLACES = (("x1", "x2"), "of.weights")
RUN_PLACES = (("data.x", "data.y", "data.x_test", "data.y_test"), "weights")
SWEEP_PLACES = (tuple(f"run.{place}" for place in RUN_PLACES[0]), f"run.{RUN_PLACES[1]}")
PREDICT_PLACES = (("data.x", "data.y", "data.x_test", "data.y_test"), "of.weights")
INFLUENCE_PLACES = (("data.x", "data.y", "x_new", "y_new", "points"), "weights")


@dataclass(frozen=True)
class Operations:
    """All that can be asked."""

    patience: Patience

    def kernel(self, spec: Any) -> Operation[Kernels]:
        """A kernel; a large one becomes a job of the service, whose end is waited for.

        Sent again, it brings no second job: the service knows large kernels by their content.
        """
        body, files = encode(spec, *KERNEL_PLACES)
        answer = yield from exchange(post("/kernel", body, files, Accept=NPZ), self.patience)
        if answer.status_code != 202:
            return Kernels(*arrays_of(answer))
        path = f"/kernels/{answer.json()['id']}"
        job = (yield from self.ended(path)).members
        asked = job["request"]
        found = {}
        for name in asked["of"]["get"]:
            found[name] = yield from self.kernel_data(path, None, None, name)
        facts = {"dtype": asked["dtype"], "outputs": asked["of"]["outputs"], "plan": job["plan"]}
        return Kernels(found, {**facts, **(job["result"] or {})})

    def kernel_job(self, spec: Any) -> Operation[Job]:
        """A kernel as a job, however small."""
        body, files = encode(spec, *KERNEL_PLACES)
        return (yield from self.job(post("/kernel", body, files, Prefer="respond-async")))

    def kernel_data(
        self, path: str, rows: slice | None, cols: slice | None, name: str | None
    ) -> Operation[Array]:
        """Some rows and columns of a kernel."""
        wanted = {"rows": rows and _range(rows), "cols": cols and _range(cols), "kernel": name}
        params = {key: value for key, value in wanted.items() if value}
        return array_of(
            (yield from exchange(Request("GET", f"{path}/data", {"Accept": NPY}, params), self.patience))
        )

    def predict(self, spec: Any) -> Operation[Prediction]:
        """Training in closed form."""
        body, files = encode(spec, *PREDICT_PLACES)
        answer = yield from exchange(post("/predict", body, files, Accept=NPZ), self.patience)
        return Prediction.of(*arrays_of(answer))

    def influence(self, spec: Any) -> Operation[Influence]:
        """One more training point."""
        return Influence.of((yield from self.json(post("/influence", *encode(spec, *INFLUENCE_PLACES)))))

    def submit(self, spec: Any) -> Operation[Job]:
        """A run, or one of an experiment."""
        body, files = encode(spec, *RUN_PLACES)
        return (yield from self.job(post("/runs", body, files, **_new_key())))

    def submit_regime(self, spec: Any) -> Operation[Job]:
        """A regime report; with the field `onnx`, of a network in a file."""
        body, files = encode(spec, *RUN_PLACES)
        path = "/regime/onnx" if "onnx" in body else "/regime"
        return (yield from self.job(post(path, body, files, **_new_key())))

    def submit_sweep(self, spec: Any) -> Operation[Job]:
        """A sweep."""
        body, files = encode(spec, *SWEEP_PLACES)
        return (yield from self.job(post("/sweeps", body, files, **_new_key())))

    def status(self, path: str) -> Operation[Job]:
        """A job as it stands; of a run, without what it recorded."""
        return (yield from self.job(Request("GET", path, params={"fields": ""})))

    def view(self, path: str) -> Operation[JSONObject]:
        """All that is said of a job."""
        return (yield from self.json(Request("GET", path)))

    def series(
        self, path: str, names: tuple[str, ...], window: Mapping[str, int]
    ) -> Operation[Mapping[str, Series]]:
        """What a run has recorded."""
        chosen = {"fields": ",".join(names)} if names else {}
        found = yield from self.json(Request("GET", path, params={**chosen, **window}))
        return {name: Series.of(members) for name, members in found["series"].items()}

    def array(self, reference: Mapping[str, Any]) -> Operation[Array]:
        """The array that an event or a series refers to."""
        return array_of((yield from exchange(Request("GET", reference["href"]), self.patience)))

    def export(self, path: str, form: str) -> Operation[bytes]:
        """A run or a sweep as a file."""
        answer = yield from exchange(Request("GET", f"{path}/export", params={"format": form}), self.patience)
        return answer.content

    def cancel(self, path: str) -> Operation[Job]:
        """Stop a job. One that was cancelled before, perhaps by a request whose answer was lost, stays so."""
        try:
            return (yield from self.job(Request("POST", f"{path}/cancel")))
        except ProblemError as problem:
            found = yield from self.status(path)
            if problem.status != 409 or found.status != "cancelled":
                raise
            return found

    def delete(self, path: str) -> Operation[None]:
        """Stop a job and forget it. One that is not found by a second try was forgotten by the first, whose
        answer was lost.
        """
        try:
            yield from exchange(Request("DELETE", path), self.patience)
        except ProblemError as problem:
            if problem.status != 404 or problem.tries == 1:
                raise

    def ended(self, path: str) -> Operation[Job]:
        """A job once it has ended.

        Raises:
            ProblemError: it failed.
        """
        while not (found := (yield from self.status(path))).has_ended:
            yield Wait(POLL_SECONDS)
        return succeeded(found)

    def page(self, params: Mapping[str, Any]) -> Operation[tuple[tuple[Job, ...], str | None]]:
        """A page of runs, and the cursor of the next."""
        found = yield from self.json(Request("GET", "/runs", params=params))
        return tuple(map(Job.of, found["runs"])), found["next"]

    def experiments(self) -> Operation[tuple[Experiment, ...]]:
        """The catalogue."""
        found = yield from self.json(Request("GET", "/experiments"))
        return tuple(Experiment(**{**each, "expect": tuple(each["expect"])}) for each in found["experiments"])

    def usage(self) -> Operation[JSONObject]:
        """What the key has used of its limits."""
        return (yield from self.json(Request("GET", "/usage")))

    def datasets(self) -> Operation[tuple[DatasetInfo, ...]]:
        """The data sets that were added."""
        found = yield from self.json(Request("GET", "/datasets"))
        return tuple(map(DatasetInfo.of, found["datasets"]))

    def add_dataset(
        self, name: str, content: bytes, media: str, how: Mapping[str, Any]
    ) -> Operation[DatasetInfo]:
        """A new data set; the same once more leads to the one that is there."""
        params = {"name": name, **{key: value for key, value in how.items() if value}}
        request = Request("POST", "/datasets", {"Content-Type": media}, params, content=content)
        return DatasetInfo.of((yield from self.json(request)))

    def job(self, request: Request) -> Operation[Job]:
        """The job that is answered with."""
        return Job.of((yield from self.json(request)))

    def json(self, request: Request) -> Operation[JSONObject]:
        """The JSON that is answered with."""
        answer = yield from exchange(request, self.patience)
        found: JSONObject = answer.json()
        return found


def succeeded(job: Job) -> Job:
    """The job, unless it failed."""
    if job.status == "failed":
        error = dict(job.error or {})
        error["errors"] = [error] if error.get("pointer") else []
        raise ProblemError(200, {"type": f"urn:ntkengine:problem:{error.get('category')}", **error})
    return job


def _new_key() -> dict[str, str]:
    """The header by which the service knows a request that it has seen."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def _range(part: slice) -> str:
    return ":".join("" if end is None else str(end) for end in (part.start, part.stop))
