"""Keys as they are stored: a name, the digest of the key, and what it may do.

A key has 256 random bits, so one SHA-256 of it cannot be undone by guessing; slow digests are for passwords.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

PREFIX = "ntk_"  # so that scanners for secrets that were published by mistake know one when they see it
ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<digest>[0-9a-f]{64}):(?P<scopes>[a-z]+(\+[a-z]+)*)")


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    """Look at what there is."""
    COMPUTE = "compute"
    """Start, stop and remove work."""
    ADMIN = "admin"
    """Everything, the metrics too."""


@dataclass(frozen=True)
class Principal:
    """Who asks: a key's holder or, where there are no keys, anyone, who has no name."""

    name: str | None
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether it may do what needs this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANYONE = Principal(None, frozenset(Scope))


@dataclass(frozen=True)
class Key:
    """An entry in the list of keys."""

    digest: str
    principal: Principal

    @classmethod
    def parse(cls, entry: str) -> Key:
        """The key of an entry `name:digest:scope+scope`.

        Raises:
            ValueError: it is none; the message does not repeat it, for it may be a key put there by mistake.
        """
        found = ENTRY.fullmatch(entry)
        if found is None:
            raise ValueError("an entry is name:digest:scopes, as `ntk keys new NAME` prints it")
        try:
            scopes = frozenset(map(Scope, found["scopes"].split("+")))
        except ValueError:
            known = ", ".join(Scope)
            raise ValueError(f"key {found['name']}: scopes are {known}, not {found['scopes']}") from None
        return cls(found["digest"], Principal(found["name"], scopes))

    def __str__(self) -> str:
        """The entry that `parse` reads."""
        scopes = "+".join(scope for scope in Scope if scope in self.principal.scopes)
        return f"{self.principal.name}:{self.digest}:{scopes}"


def digest_of(key: str) -> str:
    """What is stored of a key."""
    return sha256(key.encode()).hexdigest()


def new_key(name: str, scopes: Iterable[Scope]) -> tuple[str, Key]:
    """A key that nobody has had before, and what to store of it.

    Raises:
        ValueError: this cannot be a name.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    key = Key(digest_of(secret), Principal(name, frozenset(scopes)))
    return secret, Key.parse(str(key))


class Keyring:
    """All keys; without any, the service is open to whoever reaches it."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys
        self._by_name = {key.principal.name: key.principal for key in keys}
        if len(self._by_name) < len(keys):
            raise ValueError("two keys have the same name: each key needs its own")

    @classmethod
    def read(cls, entries: Iterable[str], file: Path | None) -> Keyring:
        """The keys given one by one, and those in the file.

        Raises:
            ValueError: an entry is no key, or two have the same name.
            OSError: the file cannot be read.
        """
        lines = file.read_text().splitlines() if file else []
        stored = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return cls([Key.parse(entry) for entry in (*entries, *stored)])

    @property
    def is_open(self) -> bool:
        """Whether there are no keys."""
        return not self._keys

    def holder(self, secret: str) -> Principal | None:
        """Whose key this is. Takes as long for a wrong key as for any right one."""
        digest = digest_of(secret)
        found = [key.principal for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return found[0] if found else None

    def named(self, name: str) -> Principal | None:
        """The holder with this name, if there still is one."""
        return self._by_name.get(name)
