"""Machines in small: network namespaces of this one, each with a cable that can be pulled. Needs root."""

from __future__ import annotations

import subprocess
from contextlib import suppress

HOST = "10.213.{}.1"
GUEST = "10.213.{}.2"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


class Machine:
    """A namespace; what is started there reaches this machine at `host`."""

    def __init__(self, number: int) -> None:
        self._name = f"ntk{number}"
        self._ours, self._theirs = f"ntk{number}a", f"ntk{number}b"
        self.host = HOST.format(number)
        self.prefix = ["ip", "netns", "exec", self._name]
        self.remove()  # one that a killed test left
        ip("netns", "add", self._name)
        ip("link", "add", self._ours, "type", "veth", "peer", "name", self._theirs, "netns", self._name)
        ip("addr", "add", f"{self.host}/24", "dev", self._ours)
        ip("link", "set", self._ours, "up")
        ip("-n", self._name, "addr", "add", f"{GUEST.format(number)}/24", "dev", self._theirs)
        for device in (self._theirs, "lo"):
            ip("-n", self._name, "link", "set", device, "up")

    def cut_off(self) -> None:
        """Nothing gets through, and nobody is told."""
        ip("link", "set", self._ours, "down")

    def connect(self) -> None:
        ip("link", "set", self._ours, "up")

    def remove(self) -> None:
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", self._ours)
        with suppress(subprocess.CalledProcessError):
            ip("netns", "del", self._name)
