"""JSON as its standard has it: no NaN, no infinities, and an error that says where."""

from __future__ import annotations

import json
from typing import Any

from service.errors import Offence, ServiceError

# In Python a short number takes many times its text; 64 MiB of numbers with all their digits are fewer.
MOST_COMMAS = 2**22


def decode(text: bytes) -> Any:
    """The value that a JSON text describes.

    Raises:
        ServiceError: it is no JSON, or has too many values.
    """
    if text.count(b",") > MOST_COMMAS:
        detail = f"The JSON has more than {MOST_COMMAS} values."
        hint = "Send arrays as .npy files in a form, or add a data set by POST /datasets."
        raise ServiceError("too-large", detail, hint=hint)
    try:
        return json.loads(text, parse_constant=_refuse)
    except NotANumber as error:
        raise _not_finite(text, error) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ServiceError("malformed", f"The body is no JSON: {error.msg} at {where}.") from None
    except (ValueError, RecursionError) as error:  # bytes, numbers of many digits, deep nesting
        raise ServiceError("malformed", f"The body is no JSON that is read here: {error}.") from None


class NotANumber(Exception):
    """A literal that Python reads and JSON does not have."""


def _refuse(literal: str) -> None:
    raise NotANumber(literal)


def _not_finite(text: bytes, error: NotANumber) -> ServiceError:
    """The problem with its pointer: decode once more, now only looking for the literal."""
    literal = str(error)
    found = object()
    pointer = _pointer_to(json.loads(text, parse_constant=lambda _: found), found) or ""
    hint = "JSON has finite numbers only; leave out what is missing."
    wrong = Offence(pointer=pointer, detail=f"{literal} is no JSON number.", got=literal, hint=hint)
    return ServiceError("invalid", f"{literal} is no JSON number: {pointer}", offences=[wrong])


def _pointer_to(value: Any, sought: object) -> str | None:
    pending = [("", value)]
    while pending:
        pointer, here = pending.pop()
        if here is sought:
            return pointer
        keys = here.keys() if hasattr(here, "keys") else range(len(here)) if hasattr(here, "append") else ()
        pending += [(f"{pointer}/{key}", here[key]) for key in reversed(list(keys))]
    return None
