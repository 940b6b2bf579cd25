"""Configuration: every setting is an environment variable `NTK_<NAME>`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """What an operator may change; the defaults serve one person on one machine."""

    model_config = SettingsConfigDict(env_prefix="NTK_", frozen=True, use_attribute_docstrings=True)

    data_dir: Path = Path("data")
    """Where the database, array files and checkpoints are kept."""
    database_url: str | None = None
    """SQLAlchemy URL of the database; the default is an SQLite file in `data_dir`."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe message that is logged."""

    concurrent_runs: Count = Field(default_factory=lambda: max(1, (os.cpu_count() or 2) - 1))
    """Training runs that compute at the same time."""
    warm_processes: Count = 2
    """Processes that wait for work with torch loaded; kernels use them, a run takes one for itself."""
    segment_seconds: Seconds = 0.5
    """Wall time between two commits of a run, and so the most work that a crash can cost."""
    crashes_allowed: Count = 3
    """Crashes of its process after which a run has failed."""

    max_body_bytes: Count = 64 * 2**20
    """Largest request body."""
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
    max_bytes: Count = 10 * 2**30
    """Most memory that one kernel or run may plan to use."""
    max_json_numbers: Count = 1_000_000
    """Most numbers in a JSON answer; above, ask for a binary one."""
    kernel_seconds: Seconds = 60.0
    """Wall time after which a synchronous kernel is stopped."""

    @property
    def resolved_database_url(self) -> str:
        """The URL of the database, also when none was given."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'ntk.sqlite').resolve()}"
