"""Configuration: every setting is an environment variable `NTK_<NAME>`; an empty one is as good as none."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


def _listed(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# What a computing process takes besides its work: torch with all it loads was measured at 0.3 GiB.
PROCESS_BYTES = 2**30


class Settings(BaseSettings):
    """What an operator may change; the defaults serve one person on one machine."""

    model_config = SettingsConfigDict(
        env_prefix="NTK_", env_ignore_empty=True, frozen=True, use_attribute_docstrings=True
    )

    data_dir: Path = Path("data")
    """Where the database, array files and checkpoints are kept."""
    database_url: str | None = None
    """SQLAlchemy URL of the database, `postgresql://...` where several processes share it; the default is an
    SQLite file in `data_dir`, for one process."""
    database_connections: Count = 10
    """Most connections of one process to PostgreSQL; the job layer has as many, and signals two."""
    work: bool = True
    """Whether this process computes; one that does not leaves jobs to others that share its database."""
    lease_seconds: Seconds = 15.0
    """How long a process that shares the database may be silent before others take up its jobs."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe message that is logged."""
    log_format: Literal["json", "text"] | None = None
    """How it is logged; by default as text to a terminal, and as lines of JSON to anything else."""
    ray_address: str | None = None
    """A Ray cluster on which large kernels are computed, such as head.example:6379; by default they are
    computed here. It has to ask for a token: RAY_AUTH_MODE=token here and there."""
    otlp_endpoint: str | None = None
    """Where traces are sent: an OpenTelemetry collector, such as http://localhost:4318/v1/traces; by default
    nowhere."""

    api_keys: Names = ()
    """Who may use the service: entries `name:digest:scopes` of `ntk keys new`, by commas or spaces."""
    api_keys_file: Path | None = None
    """A file with such entries, one a line; lines that begin with # are comments."""
    allow_open: bool = False
    """Whether the service may listen without keys where other machines reach it."""
    allowed_hosts: Names = ()
    """Names by which clients may address the service; by default those of this machine where it listens on
    loopback (a name of someone else's may be made to lead there), and any elsewhere."""
    cors_origins: Names = ()
    """Origins whose pages may use the service from a browser, such as https://notebook.example."""
    requests_per_minute: Count = 600
    """Requests of one key that start or change work; there may be so many at once, too."""
    jobs_per_key: Count = 100
    """Jobs of one key that wait or compute."""
    concurrent_runs_per_key: Count | None = None
    """Jobs of one key that compute at the same time, on all machines together; its others wait, and those of
    other keys go by. By default as many as there are processes for."""
    compute_seconds_per_key: Seconds | None = None
    """Wall time that processes may compute for one key in a day of UTC, for jobs and for what is answered at
    once; over it no new work is accepted until the next day. By default any."""
    job_disk_bytes_per_key: Count | None = None
    """Disk that the jobs of one key may take, files and records, until they are deleted: what is planned for
    those that have not ended, and what others really keep. By default any."""

    concurrent_runs: Count = Field(default_factory=lambda: max(1, (os.cpu_count() or 2) - 1))
    """Training runs that compute at the same time."""
    warm_processes: Count = 2
    """Processes that wait for work with torch loaded; kernels use them, a run takes one for itself."""
    segment_seconds: Seconds = 0.5
    """Wall time between two commits of a run, and so the most work that a crash can cost."""
    crashes_allowed: Count = 3
    """Crashes of its process after which a job has failed."""
    job_seconds: Seconds | None = None
    """Wall time, from its start on, after which a job has failed; by default any."""
    keep_days: Annotated[float, Field(gt=0)] | None = None
    """Days after which a job that has ended is deleted, with all it recorded; by default never."""
    job_memory_bytes: Annotated[int, Field(ge=64 * 2**20)] = 2**30
    """Memory that the tiles of a large kernel may use, beside its inputs and the program."""
    job_threads: Count = 1
    """Cores that one large kernel uses."""

    max_body_bytes: Count = 64 * 2**20
    """Largest request body."""
    max_dataset_bytes: Count = 256 * 2**20
    """Largest data set, as it is sent and as float64."""
    dataset_bytes_per_key: Count = 10 * 2**30
    """Disk that the data sets of one key may take."""
    max_width: Count = 65_536
    """Widest layer."""
    max_depth: Count = 200
    """Most layers in a network."""
    max_points: Count = 4_000
    """Most data points of a synchronous kernel."""
    max_flops: Annotated[float, Field(gt=0)] = 2e11
    """Most floating-point operations of a synchronous kernel: about two seconds on small machines."""
    max_job_points: Count = 200_000
    """Most data points of a job."""
    max_job_flops: Annotated[float, Field(gt=0)] = 7e14
    """Most floating-point operations of a job: about two hours on small machines."""
    max_combinations: Count = 1_000
    """Most combinations of a sweep."""
    max_bytes: Count = 10 * 2**30
    """Most memory that one kernel or run may plan to use."""
    job_bytes: Count | None = None
    """Most memory that one computing process gets; by default `max_bytes` and what it takes by itself."""
    max_kernel_disk_bytes: Count = 100 * 10**9
    """Most disk that one large kernel may take."""
    max_json_numbers: Count = 1_000_000
    """Most numbers in a JSON answer; above, ask for a binary one."""
    kernel_seconds: Seconds = 60.0
    """Wall time after which a synchronous kernel is stopped."""

    @property
    def resolved_database_url(self) -> str:
        """The URL of the database, also when none was given."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'ntk.sqlite').resolve()}"

    @property
    def resolved_job_bytes(self) -> int:
        """The memory of one computing process, also when it was not given."""
        return self.job_bytes or self.max_bytes + PROCESS_BYTES

    @property
    def answers_to(self) -> Names:
        """The host names of requests that are answered; none: all of them."""
        return self.allowed_hosts or ((*LOOPBACK, self.host) if is_loopback(self.host) else ())
