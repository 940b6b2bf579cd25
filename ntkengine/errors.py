"""What the engine raises. Each class has a category; a service maps categories to answers in one table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar


class EngineError(Exception):
    """An error a user can act on.

    Args:
        message: what was expected and what was got.
        pointer: JSON pointer (RFC 6901) of the offending field in the object that was checked.
        hint: what to do about it.
    """

    category: ClassVar[str] = "engine"

    def __init__(self, message: str, *, pointer: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.pointer = pointer
        self.hint = hint


class SpecError(EngineError):
    """The spec contradicts itself or the data."""

    category = "invalid"


class UnsupportedError(EngineError):
    """The spec is sound, but what was asked of it has no rule."""

    category = "unsupported"


class ResourceError(EngineError):
    """The work is over a limit; `estimate` and `limit` say by how much."""

    category = "too_costly"

    def __init__(
        self,
        message: str,
        *,
        estimate: dict[str, Any],
        limit: dict[str, Any],
        pointer: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, pointer=pointer, hint=hint)
        self.estimate = estimate
        self.limit = limit


class NumericalError(EngineError):
    """A computation left the range in which its answer means anything."""

    category = "numerical"


class Cancelled(EngineError):
    """The caller stopped the work."""

    category = "cancelled"


def pointer_of(path: str) -> str:
    """The JSON pointer of a dotted path: `layers.2.branches.0` -> `/layers/2/branches/0`.

    Copies of a repeated layer are one field of the spec: `layers.1.copies.5` -> `/layers/1/layer`.
    """
    return re.sub(r"/copies/\d+", "/layer", "/" + path.replace(".", "/"))


@contextmanager
def located(prefix: str) -> Iterator[None]:
    """Pointers of errors raised inside become those of the object that holds the checked one at `prefix`."""
    try:
        yield
    except EngineError as error:
        error.pointer = prefix + (error.pointer or "")
        raise
