"""What the catalogue says of an experiment."""

from __future__ import annotations

from ntkengine.dynamics import RunSpec
from ntkengine.spec import spec


@spec
class Experiment:
    """A named run."""

    name: str
    """Its name in addresses and requests."""
    title: str
    """A line for a list."""
    shows: str
    """A sentence on what it shows."""
    expect: tuple[str, ...]
    """What to look for, with numbers."""
    spec: RunSpec
    """The run itself."""
