"""A server that has keys."""

from __future__ import annotations

from pathlib import Path

import httpx

from service.access.keys import Scope, new_key
from tests.service.server import PATIENCE, Server

ORIGIN = "https://notebook.example"  # whose pages may use it
BOTH = (Scope.READ, Scope.COMPUTE)
HOLDERS = {"ann": BOTH, "ben": BOTH, "reader": (Scope.READ,), "operator": (Scope.ADMIN,)}


class Guarded(Server):
    """A server with a key for each of `HOLDERS`; `client` has none of them."""

    def __init__(self, directory: Path, work: str, **environment: str) -> None:
        made = {name: new_key(name, scopes) for name, scopes in HOLDERS.items()}
        file = directory / "keys"
        file.write_text("# who may come in\n" + "\n".join(str(key) for _, key in made.values()) + "\n")
        super().__init__(directory, work, NTK_API_KEYS_FILE=str(file), NTK_CORS_ORIGINS=ORIGIN, **environment)
        self.keys = {name: secret for name, (secret, _) in made.items()}
        base = self.client.base_url
        self._clients = {
            name: httpx.Client(base_url=base, headers={"Authorization": f"Bearer {secret}"}, timeout=PATIENCE)
            for name, secret in self.keys.items()
        }

    def as_(self, name: str) -> httpx.Client:
        """A client with this holder's key."""
        return self._clients[name]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        super().close()
