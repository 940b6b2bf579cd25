"""The one composition root: which store, which processes, which queue."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.metadata
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import sqlalchemy as sa
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from service import web
from service.compute.durable import DurableQueue
from service.compute.pool import Pool, ProcessExecutor
from service.compute.processes import RunProcesses
from service.compute.worker import Stream, Task, Warm
from service.routes import experiments, kernels, operations, responses, runs
from service.routes.documentation import describe_answers
from service.routes.requests import RequestIds
from service.routes.services import Services
from service.runs import child
from service.runs.kernels import Kernels
from service.runs.manager import Runs
from service.runs.notify import Notifier
from service.runs.supervise import Policy, Supervisor
from service.settings import Settings
from service.store.database import connect
from service.store.files import Files
from service.store.runs import RunStore
from service.store.schema import migrate

VERSION = importlib.metadata.version("ntkengine")
LEAST_FREE_BYTES = 100 * 2**20

DESCRIPTION = """Neural tangent kernels, finite and infinite, and real training to compare them with.

A JSON spec is the single source of a network. `POST /kernel` answers with its kernels; `POST /runs` trains
it, and `GET /runs/{id}/events` shows every point as soon as it is safely stored. Whatever is no success is
answered with `application/problem+json` that says where the request is wrong and what to do."""


@dataclass(frozen=True)
class Work:
    """What the computing processes do: module-level functions, which they find by name."""

    warm: Warm = child.warm
    kernel: Task = child.kernel
    train: Stream = child.train


def create_app(settings: Settings | None = None, work: Work | None = None) -> FastAPI:
    """The application; it starts and stops all that belongs to it."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        _log_from(settings.log_level)
        parts = Parts(settings, work or Work())
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
    app.add_middleware(RequestIds)
    responses.install(app)
    for noun in (kernels, runs, experiments, operations):
        app.include_router(noun.router)
    describe_answers(app)
    web.mount(app)
    return app


def _log_from(level: str) -> None:
    logger = logging.getLogger("service")
    logger.setLevel(level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)


class Parts:
    """All that has a life of its own, and the order in which it begins and ends."""

    def __init__(self, settings: Settings, work: Work) -> None:
        self._settings = settings
        self._lock = Lock(settings.data_dir)
        self._engine = connect(settings.resolved_database_url)
        self._pool = Pool(work.warm, settings.warm_processes)
        self._executor = ProcessExecutor(self._pool, settings.warm_processes, settings.kernel_seconds)
        self._processes = RunProcesses(self._pool)
        self.notifier = Notifier()
        store, files = RunStore(self._engine), Files(settings.data_dir.resolve() / "runs")
        policy = Policy(settings.segment_seconds, settings.crashes_allowed)
        supervisor = Supervisor(store, files, self._processes, self.notifier, work.train, policy)
        self._queue = DurableQueue(settings.resolved_database_url, supervisor, settings.concurrent_runs)
        self._runs = Runs(store, files, self._queue, self._processes, self.notifier, settings)
        self._kernels = Kernels(self._executor, work.kernel, settings)

    def start(self) -> Services:
        """Begin to work; unfinished runs are taken up again."""
        self._lock.take()
        schema_version = migrate(self._engine)
        self._pool.start()
        self._queue.start()
        self._runs.recover()
        return Services(
            settings=self._settings,
            runs=self._runs,
            kernels=self._kernels,
            readiness=self._readiness,
            version=VERSION,
            schema_version=schema_version,
        )

    def stop(self) -> None:
        """End all processes; runs stay where they are."""
        self._processes.close()
        self._pool.close()
        self._executor.shutdown()
        self._queue.stop()
        self._engine.dispose()
        self._lock.release()

    def _readiness(self) -> dict[str, str]:
        return {
            "database": _check(self._database_answers),
            "disk": _check(self._disk_has_room),
            "workers": _check(lambda: self._pool.live() > 0),
        }

    def _database_answers(self) -> bool:
        with self._engine.connect() as connection:
            return bool(connection.scalar(sa.text("SELECT 1")) == 1)

    def _disk_has_room(self) -> bool:
        return shutil.disk_usage(self._settings.data_dir).free > LEAST_FREE_BYTES


def _check(holds: Callable[[], bool]) -> str:
    try:
        return "ok" if holds() else "missing"
    except (OSError, sa.exc.SQLAlchemyError) as error:
        return type(error).__name__


class Lock:
    """Keeps a second server off the same data directory: both would take up the same runs."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "server.lock"
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take the lock, for as long as this process lives.

        Raises:
            RuntimeError: another server has it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise RuntimeError(
                f"another server uses {self._path.parent}: stop it, or set NTK_DATA_DIR"
            ) from None
        self._file = file

    def release(self) -> None:
        """Give the lock back, if it was taken."""
        if self._file is not None:
            self._file.close()
