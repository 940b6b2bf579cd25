"""The figures of the notes, drawn from the catalogue's runs, and a report of their claims (matplotlib)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ntkengine.figures.catalogue import Figure, catalogue

__all__ = ["Figure", "catalogue", "draw"]


def draw(out: Path, only: str = "") -> Iterator[Path]:
    """Draw the figures whose name has these words, each as PNG and SVG in that directory, one by one.

    Raises:
        ModuleNotFoundError: matplotlib is not there; `pip install 'ntkengine[figures]'` brings it.
    """
    import torch

    from ntkengine.figures.style import saved

    out.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the work is small: more threads only wait for each other
    try:
        for name, figure in catalogue().items():
            if only.lower() in name:
                yield from saved(figure.draw, out / name)
    finally:
        torch.set_num_threads(threads)
