"""What a key has used of its limits."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import Field

from service.routes.access import UsePrincipal
from service.routes.documentation import problems
from service.routes.models import TIME, Answer
from service.routes.responses import json_response
from service.routes.services import UseServices

router = APIRouter(tags=["operations"])


class Used(Answer):
    """How much of something is used."""

    used: float = Field(description="What is used.", examples=[3])
    limit: float | None = Field(description="What may be; null: any amount.", examples=[100])


class UsedToday(Used):
    """How much of something is used that comes back every day."""

    resets_at: str = Field(description="When all of it is back.", examples=[TIME])


class UsageView(Answer):
    """What is used of all that is limited by key."""

    key: str | None = Field(
        description="The name of the key; null where there are none, and hardly any limits.",
        examples=["alice"],
    )
    concurrent_runs: Used = Field(description="Jobs that compute; others wait until one of them has ended.")
    jobs: Used = Field(description="Jobs that wait or compute.")
    compute_seconds: UsedToday = Field(
        description="Wall time that processes have computed today, in UTC, for jobs and for what was "
        "answered at once. It is counted every second."
    )
    job_disk_bytes: Used = Field(
        description="Disk that jobs take until they are deleted: as planned while they have not ended."
    )
    dataset_bytes: Used = Field(description="Disk that data sets take.")


@router.get("/usage", summary="What have I used?", response_model=UsageView, responses=problems())
def usage(parts: UseServices, asker: UsePrincipal) -> Response:
    """What the key that asks has used of each of its limits.

    Over a limit, new work is answered with 429, Retry-After and RateLimit fields. How many requests a minute
    are left is said by the RateLimit fields of every answer to one that starts or changes work.
    """
    return json_response(parts.accounts.of(asker.name))
