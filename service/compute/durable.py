"""Jobs that survive the server: a DBOS queue of job ids. The only module that knows DBOS."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetEnqueueOptions, SetWorkflowID

logger = logging.getLogger(__name__)

QUEUE = "runs"
ASIDE = "aside"  # nobody takes jobs from this queue: in it they wait until they are called back
# Recovery looks for workflows of the same version and executor. Jobs outlive both: the version is fixed, and
# so is the executor where there is only one.
APPLICATION_VERSION = "1"
ONLY_EXECUTOR = "local"
UNFINISHED = ("ENQUEUED", "PENDING", "DELAYED")


class SetAside(BaseException):
    """The job was set aside: whoever was called with it returns at once.

    Not an Exception, so that neither a handler of failures nor the job layer takes it for the job's end.
    """


class DurableQueue:
    """Calls `job(id)` for each submitted id, some at a time; after a crash again, until it has returned once.

    The job keeps its own progress: called again, it goes on where it was.

    Args:
        url: the database.
        concurrency: how many jobs each process takes at a time; 0: this one takes none. It is kept in the
            database, so that of several processes the one that started last says it for all.
        executor: the name of this process, for those who take over from it.
        connections: the most that PostgreSQL is asked for.
    """

    def __init__(
        self,
        url: str,
        concurrency: int,
        executor: str = ONLY_EXECUTOR,
        connections: int = 10,
    ) -> None:
        self._concurrency = concurrency
        self._config: DBOSConfig = {
            "name": "ntkengine",
            "system_database_url": url,
            "sys_db_pool_size": connections,
            "application_version": APPLICATION_VERSION,
            "executor_id": executor,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
        }

    def start(self, job: Callable[[str], None]) -> None:
        """Take up unfinished jobs and begin to take new ones.

        Args:
            job: what to call, in the process that takes the job from the queue. It may raise SetAside.
        """
        DBOS(config=self._config)

        @DBOS.workflow(name=QUEUE, max_recovery_attempts=None)
        def workflow(job_id: str) -> None:
            job(job_id)

        self._workflow = workflow
        DBOS.listen_queues([QUEUE] if self._concurrency else [])
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=self._concurrency or 1,
            polling_interval_sec=0.1,
            on_conflict="always_update" if self._concurrency else "never_update",
        )

    def submit(self, job_id: str, rank: int) -> None:
        """Queue the job before those of higher rank; a job that is queued already is not queued twice."""
        with SetWorkflowID(job_id), SetEnqueueOptions(priority=rank):
            DBOS.enqueue_workflow(QUEUE, self._workflow, job_id)

    def ensure(self, job_id: str, rank: int) -> None:
        """Queue the job unless it is queued, set aside, runs, or will be recovered."""
        status = self._status(job_id)
        if status in UNFINISHED:
            return
        if status is not None:
            DBOS.delete_workflow(job_id)
        self.submit(job_id, rank)

    def ensure_all(self, ranks: Mapping[str, int]) -> None:
        """`ensure` each of these jobs, looking only once for those that need nothing."""
        known = set(_ids(list(UNFINISHED)))
        for job_id, rank in ranks.items():
            if job_id not in known:
                self.ensure(job_id, rank)

    def set_aside(self, job_id: str) -> None:
        """Take the job, which has just been called, out of the queue until it is called back.

        It keeps its rank and its age. Whoever was called has to raise SetAside.
        """
        _outside_of_workflows(DBOS.resume_workflow, job_id, queue_name=ASIDE)

    def call_back(self, job_ids: list[str] | None = None) -> None:
        """Queue those of the jobs again that were set aside; of all jobs, if none are named."""

        def resume() -> None:
            if aside := _ids("ENQUEUED", queue_name=ASIDE, workflow_ids=job_ids):
                DBOS.resume_workflows(aside, queue_name=QUEUE)

        _outside_of_workflows(resume)

    def take_over(self, executor: str) -> None:
        """Queue again what the process of this name had taken. Should it live, what it says is ignored."""
        if taken := _ids("PENDING", executor_id=executor):
            logger.warning("%d jobs of %s are taken over", len(taken), executor)
            DBOS.resume_workflows(taken, queue_name=QUEUE)

    def _status(self, job_id: str) -> str | None:
        found = DBOS.get_workflow_status(job_id)
        return None if found is None else found.status

    def forget(self, job_id: str) -> None:
        """Remove the job. One that runs must have been stopped; it is given a moment to say so."""
        deadline = time.monotonic() + 2
        while self._status(job_id) == "PENDING" and time.monotonic() < deadline:
            time.sleep(0.01)
        DBOS.cancel_workflow(job_id)
        DBOS.delete_workflow(job_id)

    def stop(self) -> None:
        """Take no more jobs. Those that run must have been stopped before."""
        DBOS.destroy(destroy_registry=True)


def _ids(status: str | list[str], **filters: Any) -> list[str]:
    found = DBOS.list_workflows(status=status, load_input=False, load_output=False, **filters)
    return [workflow.workflow_id for workflow in found]


def _outside_of_workflows(do: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """Do it. Within a job, which is a workflow, DBOS would note it as a step: not done again when the job is
    taken up again, and refused to a job that has just been set aside.
    """
    Context().run(do, *args, **kwargs)
