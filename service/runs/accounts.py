"""What a key has used of what is limited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.runs.clock import tomorrow
from service.runs.states import ACTIVE, Status
from service.runs.usage import Usage
from service.settings import Settings
from service.store.datasets import Datasets
from service.store.jobs import JobStore


@dataclass(frozen=True)
class Accounts:
    """Looks up what is used, and how much may be."""

    jobs: JobStore
    datasets: Datasets
    usage: Usage
    settings: Settings

    def of(self, owner: str | None) -> dict[str, Any]:
        """By the name of what is limited, as the settings have it: what is used, and the limit or None.

        Without keys it is what all have used, and nothing but data sets is limited.
        """
        used = {
            "concurrent_runs": self.jobs.count_of(owner, [Status.RUNNING]),
            "jobs": self.jobs.count_of(owner, ACTIVE),
            "compute_seconds": self.usage.today(owner),
            "job_disk_bytes": self.jobs.kept_by(owner),
            "dataset_bytes": sum(about["bytes"] for about in self.datasets.of(owner)),
        }
        limits = {name: getattr(self.settings, f"{name}_per_key") for name in used}
        if owner is None:
            limits = {"dataset_bytes": limits["dataset_bytes"]}
        found = {name: {"used": amount, "limit": limits.get(name)} for name, amount in used.items()}
        found["compute_seconds"]["resets_at"] = tomorrow()
        return {"key": owner, **found}
