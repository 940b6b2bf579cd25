"""JSON pointers (RFC 6901): names of places in a JSON value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

POINTER = r"^(/([^~/]|~[01])*)+$"  # of a place below the whole value


def pointer_to(*keys: Any) -> str:
    """The pointer along these keys.

    >>> pointer_to("layers", 0, "a/b")
    '/layers/0/a~1b'
    """
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def keys_of(pointer: str) -> tuple[str, ...]:
    """The keys along a pointer.

    >>> keys_of("/layers/0/a~1b")
    ('layers', '0', 'a/b')
    """
    return tuple(key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:])


def is_within(pointer: str, other: str) -> bool:
    """Whether a pointer leads to another one's place, or into it."""
    return pointer == other or pointer.startswith(f"{other}/")


def along(value: Any, location: Iterable[Any], *, ends_in_a_key: bool = False) -> str:
    """The pointer into `value` along a location of pydantic's, which has names of union members besides keys:
    what is not there drops out.

    Args:
        ends_in_a_key: the last of them is one that is missing, or should be.
    """
    keys, here, path = [], value, list(location)
    for position, key in enumerate(path):
        try:
            here = here[key]
        except (KeyError, IndexError, TypeError):
            if not (ends_in_a_key and position == len(path) - 1):
                continue
        keys.append(key)
    return pointer_to(*keys)


def replaced(value: Any, keys: Sequence[str], new: Any) -> Any:
    """A JSON value with another one at the place along `keys`, where an object may get a new key; what is not
    on the way there is shared.

    Raises:
        KeyError: there is no such place.

    >>> replaced({"layers": [{"width": 8}]}, keys_of("/layers/0/width"), 16)
    {'layers': [{'width': 16}]}
    """
    if not keys:
        return new
    key, *rest = keys
    if isinstance(value, dict) and (key in value or not rest):
        return {**value, key: replaced(value.get(key), rest, new)}
    if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        at = int(key)
        return [*value[:at], replaced(value[at], rest, new), *value[at + 1 :]]
    raise KeyError(key)
