"""The `ntk` command, which also writes when each segment was committed: one number a line, to STAMPS.

Events carry the time before their transaction; how long they take from its end to a reader is not in them.
"""

import os
import time
from pathlib import Path
from typing import Any

from service.cli import main
from service.store.jobs import JobStore

STAMPS = "NTK_BENCHMARK_STAMPS"


def stamp(path: Path) -> None:
    """Have each commit of a segment append its time, in seconds since 1970, to the file."""
    advance = JobStore.advance

    def stamped(self: JobStore, job_id: str, fence: dict[str, Any], *more: Any, **named: Any) -> bool:
        done = advance(self, job_id, fence, *more, **named)
        if done and "segment" in fence:
            with path.open("a") as lines:
                lines.write(f"{time.time()}\n")
        return done

    JobStore.advance = stamped  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    stamp(Path(os.environ[STAMPS]))
    main()
