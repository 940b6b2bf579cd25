"""The one composition root: which store, which processes, which queue."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.metadata
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.concurrency import run_in_threadpool

from ntkengine.datasets import VARIABLE as DATASETS_VARIABLE
from service import logs, web
from service.access.keys import Keyring
from service.access.rates import Rates
from service.access.tickets import Tickets
from service.compute.cluster import check_guarded
from service.compute.durable import ONLY_EXECUTOR, DurableQueue
from service.compute.nobody import Nobody
from service.compute.pool import Pool, ProcessExecutor
from service.compute.processes import JobProcesses
from service.compute.worker import Task, Warm
from service.metrics import Metrics, Overview
from service.routes import (
    access,
    datasets,
    experiments,
    export,
    influence,
    kernel_jobs,
    kernels,
    onnx_kernels,
    onnx_regime,
    operations,
    predict,
    regime,
    responses,
    runs,
    sweeps,
    usage,
)
from service.routes.access import Access
from service.routes.documentation import describe_answers
from service.routes.guard import Guard
from service.routes.leaving import Departure, Leaving
from service.routes.requests import Observed, RequestIds
from service.routes.services import Services
from service.runs import child, predictions
from service.runs import influence as influence_work
from service.runs import onnx_kernels as onnx_work
from service.runs.accounts import Accounts
from service.runs.chores import Chore
from service.runs.clock import seconds_since
from service.runs.datasets import DataSets
from service.runs.influence import Influences
from service.runs.kernels import Kernels
from service.runs.kinds import KINDS, JobKind
from service.runs.manager import Backend, Jobs
from service.runs.neighbours import Neighbours, new_name
from service.runs.notify import Notifier
from service.runs.onnx_kernels import OnnxKernels
from service.runs.places import Places
from service.runs.predictions import Predictions
from service.runs.states import Status
from service.runs.supervise import Policy, Supervisor
from service.runs.usage import WRITTEN_SECONDS, Usage
from service.runs.waiting import Waiting
from service.settings import Settings
from service.store.database import TRANSIENT, connect, is_shared, with_patience
from service.store.datasets import Datasets
from service.store.files import Files
from service.store.jobs import JobStore
from service.store.processes import ProcessStore
from service.store.schema import migrate
from service.store.signals import Alone, PostgresSignals
from service.store.usage import UsageStore
from service.tracing import Traced, Tracing
from service.web.headers import StrictHeaders

VERSION = importlib.metadata.version("ntkengine")
LEAST_FREE_BYTES = 100 * 2**20
EXPIRY_SECONDS = 3600.0
# What a request has stored and, as the database or the disk failed just then, not queued.
RECOVERY_SECONDS = 30.0

DESCRIPTION = """Neural tangent kernels, finite and infinite, and real training to compare them with.

A JSON spec is the single source of a network. `POST /kernel` answers with its kernels; `POST /runs` trains
it, and `GET /runs/{id}/events` shows every point as soon as it is safely stored. Whatever is no success is
answered with `application/problem+json` that says where the request is wrong and what to do."""


@dataclass(frozen=True)
class Work:
    """What the computing processes do: module-level functions, which they find by name."""

    warm: Warm = child.warm
    kernel: Task = child.kernel
    kinds: Sequence[JobKind] = KINDS
    predict: Task = predictions.predict
    onnx_kernel: Task = onnx_work.onnx_kernel
    influence: Task = influence_work.move


def create_app(settings: Settings | None = None, work: Work | None = None) -> FastAPI:
    """The application; it starts and stops all that belongs to it."""
    settings = settings or Settings()
    if settings.ray_address is not None:
        check_guarded()
    metrics = Metrics()
    tracing = Tracing(settings.otlp_endpoint, VERSION) if settings.otlp_endpoint else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure(settings.log_level, settings.log_format)
        parts = Parts(settings, work or Work(), metrics, tracing)
        parts.notifier.attach(asyncio.get_running_loop())
        try:
            app.state.services = await run_in_threadpool(parts.start)
            yield
        finally:
            await run_in_threadpool(parts.stop)

    app = FastAPI(
        title="ntkengine",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    _put_at_the_door(app, settings, metrics)
    if tracing is not None:
        app.add_middleware(Traced, tracing=tracing)
    app.add_middleware(RequestIds)
    responses.install(app)
    for noun in (
        kernels,
        onnx_kernels,
        influence,
        predict,
        kernel_jobs,
        runs,
        regime,
        sweeps,
        datasets,
        onnx_regime,
        export,
        experiments,
        operations,
        usage,
        access,
    ):
        app.include_router(noun.router)
    describe_answers(app)
    web.mount(app)
    return app


def _put_at_the_door(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """What every request passes before its handler; what is added last is met first."""
    keys = Keyring.read(settings.api_keys, settings.api_keys_file)
    app.state.departure = Departure()
    app.state.tickets = Tickets(settings.data_dir / "tickets.secret")
    app.add_middleware(
        Access, keys=keys, tickets=app.state.tickets, rates=Rates(settings.requests_per_minute)
    )
    if settings.cors_origins:  # outside of access: browsers ask without a key whether they may send one
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer"],
            expose_headers=["Location", "X-Request-ID", "Retry-After", "RateLimit", "RateLimit-Policy"],
        )
    app.add_middleware(Guard, hosts=settings.answers_to, origins=settings.cors_origins)
    app.add_middleware(Leaving, departure=app.state.departure)
    app.add_middleware(Observed, metrics=metrics)
    app.add_middleware(StrictHeaders)


class Parts:
    """All that has a life of its own, and the order in which it begins and ends."""

    def __init__(
        self, settings: Settings, work: Work, metrics: Metrics, tracing: Tracing | None = None
    ) -> None:
        self._settings = settings
        self._lock = lock_of(settings)
        url = with_patience(settings.resolved_database_url)
        several = is_shared(url)
        self._engine = connect(url, settings.database_connections)
        warm = settings.warm_processes if settings.work else 0
        self._pool = Pool(work.warm, warm, settings.resolved_job_bytes)
        self._executor = (
            ProcessExecutor(self._pool, warm, settings.kernel_seconds) if settings.work else Nobody()
        )
        self._processes = JobProcesses(self._pool)
        self.notifier = Notifier(PostgresSignals(self._engine) if several else Alone())
        store, files = JobStore(self._engine), Files(settings.data_dir.resolve() / "runs")
        policy = Policy(settings.segment_seconds, settings.crashes_allowed, settings.job_seconds)
        takes = settings.concurrent_runs if settings.work else 0
        name = new_name() if several else ONLY_EXECUTOR
        self._queue = DurableQueue(url, takes, name, settings.database_connections)
        places = Places(store, self._queue, settings.concurrent_runs_per_key)
        self._usage = Usage(UsageStore(self._engine), metrics, settings.compute_seconds_per_key)
        supervisor = Supervisor(
            store, files, self._processes, self.notifier, work.kinds, policy, metrics, places, self._usage
        )
        metrics.show_jobs(lambda: _overview(store))
        self._tracing = tracing
        self._job = supervisor if tracing is None else tracing.of_jobs(supervisor)
        self._backend = Backend(
            store, files, self._queue, self._processes, self.notifier, places, self._usage, settings
        )
        self._chores = [
            Chore(self._backend.recover, RECOVERY_SECONDS),
            Chore(self._usage.write, WRITTEN_SECONDS),
        ]
        self._neighbours: Neighbours | None = None
        if several:
            known, lease = ProcessStore(self._engine), settings.lease_seconds
            self._neighbours = Neighbours(name, known, store, self._queue, self._processes, lease)
            self._chores.append(Chore(self._neighbours.round, self._neighbours.seconds))
        if settings.keep_days is not None:
            self._chores.append(Chore(partial(self._backend.expire, settings.keep_days), EXPIRY_SECONDS))
        self._jobs = {kind.name: Jobs(kind, self._backend) for kind in work.kinds}
        self._waiting = Waiting(self._executor, settings.kernel_seconds, self._usage)
        self._kernels = Kernels(self._waiting, work.kernel, settings)
        self._predictions = Predictions(self._waiting, work.predict, settings)
        self._onnx_kernels = OnnxKernels(self._waiting, work.onnx_kernel, settings)
        self._influences = Influences(self._waiting, work.influence, settings)
        self._datasets = Datasets(settings.data_dir.resolve() / "datasets")
        self._accounts = Accounts(store, self._datasets, self._usage, settings)

    def start(self) -> Services:
        """Begin to work; unfinished jobs are taken up again."""
        self._lock.take()
        schema_version = migrate(self._engine)
        self._datasets.start()
        os.environ[DATASETS_VARIABLE] = str(self._datasets.root)  # for this process and those it starts
        self._pool.start()
        self._queue.start(self._job)
        self.notifier.start(self._processes.kill)
        for chore in self._chores:
            chore.start()
        return Services(
            settings=self._settings,
            jobs=self._jobs,
            kernels=self._kernels,
            predictions=self._predictions,
            onnx_kernels=self._onnx_kernels,
            influences=self._influences,
            datasets=DataSets(self._datasets, self._waiting, self._settings),
            accounts=self._accounts,
            readiness=self._readiness,
            version=VERSION,
            schema_version=schema_version,
        )

    def stop(self) -> None:
        """End all processes; runs stay where they are."""
        for chore in self._chores:
            chore.stop()
        self._processes.close()
        self._pool.close()
        self._executor.shutdown()
        self._queue.stop()
        self._usage.write()
        if self._neighbours is not None:
            self._neighbours.leave()
        self.notifier.stop()
        self._engine.dispose()
        self._lock.release()
        if self._tracing is not None:
            self._tracing.stop()

    def _readiness(self) -> dict[str, str]:
        return {
            "database": _check(self._database_answers),
            "disk": _check(self._disk_has_room),
            "workers": _check(lambda: not self._settings.work or self._pool.live() > 0),
        }

    def _database_answers(self) -> bool:
        with self._engine.connect() as connection:
            return bool(connection.scalar(sa.text("SELECT 1")) == 1)

    def _disk_has_room(self) -> bool:
        return shutil.disk_usage(self._settings.data_dir).free > LEAST_FREE_BYTES


def _overview(store: JobStore) -> Overview | None:
    """What the metrics tell of jobs; nothing while the database is away."""
    try:
        waiting_since = store.oldest_with(Status.QUEUED)
        return Overview(
            {**dict.fromkeys(Status, 0), **store.count_by_status()},
            0.0 if waiting_since is None else max(0.0, seconds_since(waiting_since)),
        )
    except TRANSIENT:
        return None


def _check(holds: Callable[[], bool]) -> str:
    try:
        return "ok" if holds() else "missing"
    except (OSError, sa.exc.SQLAlchemyError) as error:
        return type(error).__name__


def lock_of(settings: Settings) -> Lock:
    """The lock on the data directory: processes may share it where they share a database, too."""
    return Lock(settings.data_dir, shared=is_shared(settings.resolved_database_url))


class Lock:
    """Keeps a second server off the same data directory: both would take up the same runs."""

    def __init__(self, directory: Path, *, shared: bool = False) -> None:
        self._path = directory / "server.lock"
        self._how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take the lock, for as long as this process lives.

        Raises:
            RuntimeError: another server has it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("w")
        try:
            fcntl.flock(file, self._how | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise RuntimeError(
                f"another server uses {self._path.parent}: stop it, set NTK_DATA_DIR, or have both share "
                "a PostgreSQL database by NTK_DATABASE_URL"
            ) from None
        self._file = file

    def release(self) -> None:
        """Give the lock back, if it was taken."""
        if self._file is not None:
            self._file.close()
