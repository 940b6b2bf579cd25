"""Messages for people at a terminal, and for machines as one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

OURS = ("service", "uvicorn.error", "dbos")


def facts(**values: Any) -> dict[str, Any]:
    """`extra` of a message: facts that have a key of their own in JSON; None is left out."""
    return {"facts": {name: value for name, value in values.items() if value is not None}}


class Lines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Text(logging.Formatter):
    """For people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """The message, and its facts behind it."""
        told = (f"{name}={value}" for name, value in getattr(record, "facts", {}).items())
        return " ".join([super().formatMessage(record), *told])


FORMATS = {"json": Lines, "text": Text}


def configure(level: str, chosen: str | None) -> None:
    """Have all that is logged here go to stderr, in the chosen format or the one that fits what stderr is."""
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATS[chosen or ("text" if sys.stderr.isatty() else "json")]())
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    logging.getLogger("service").setLevel(level.upper())
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
