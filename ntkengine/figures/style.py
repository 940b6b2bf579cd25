"""How figures look, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a7a7a")  # told apart by the colour-blind too
TWIN = "#7b3fb5"
SOLUTION = "#c1121f"
STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.dpi": 150,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.fontsize": 8,
    "legend.framealpha": 0.8,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "ntkengine",  # the same figure is the same file
}


def saved(draw: Callable[[Canvas], None], stem: Path) -> Iterator[Path]:
    """Draw on a canvas of its own, without a display, and write both files."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(layout="constrained")
        FigureCanvasAgg(canvas)
        draw(canvas)
        for path, metadata in ((stem.with_suffix(".png"), {}), (stem.with_suffix(".svg"), {"Date": None})):
            canvas.savefig(path, metadata=metadata)
            yield path
