"""What is done again and again beside the requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Chore:
    """Calls `do` every so many seconds, in a thread of its own; what it raises is logged, and it goes on."""

    def __init__(self, do: Callable[[], None], seconds: float) -> None:
        self._do = do
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="chore", daemon=True)

    def start(self) -> None:
        """Call it now, and from then on."""
        self._thread.start()

    def stop(self) -> None:
        """Call it no more; one that is under way is given a moment."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def _repeat(self) -> None:
        while not self._stopping.is_set():
            try:
                self._do()
            except Exception:
                logger.exception("a chore failed; it is done again in %g seconds", self._seconds)
            self._stopping.wait(self._seconds)
