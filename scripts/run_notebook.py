"""Run a notebook of the documentation, and keep what it prints and draws.

    python scripts/run_notebook.py docs/notebook.ipynb

`tests/test_docs.py` runs it likewise, and holds what is printed to what is kept.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

Notebook = Any  # nbformat has no types


def load(path: Path) -> Notebook:
    """The notebook of a file."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def ran(notebook: Notebook, seconds: int = 280) -> Notebook:
    """A copy, with what its cells give here and now.

    Raises:
        CellExecutionError: a cell fails.
    """
    fresh = copy.deepcopy(notebook)
    NotebookClient(fresh, timeout=seconds, record_timing=False).execute()
    return fresh


def printed(notebook: Notebook) -> list[str]:
    """The text under each cell."""
    return [
        "".join(each.text for each in cell.get("outputs", ()) if each.output_type == "stream")
        for cell in notebook.cells
    ]


def drawn(notebook: Notebook) -> list[int]:
    """How many pictures are under each cell."""
    return [
        sum("image/png" in each.get("data", ()) for each in cell.get("outputs", ()))
        for cell in notebook.cells
    ]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        nbformat.write(ran(load(Path(name))), name)  # type: ignore[no-untyped-call]
