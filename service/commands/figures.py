"""`ntk figures`: the figures of the notes, and a page of their claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.commands.terminal import err, give_up, out


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(figures)


def figures(
    into: Annotated[Path, typer.Option("--out", help="Directory for the files.")] = Path("figures"),
    only: Annotated[str, typer.Option(help="Only the figures with these words, and no report.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Report with all networks: minutes more.")] = False,
) -> None:
    """Draw the figures of the notes as PNG and SVG, and report which of their claims hold."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise give_up("Figures need matplotlib: pip install 'ntkengine[figures]'.") from None
    mpl.use("agg")
    from ntkengine.figures import draw
    from ntkengine.figures.report import report
    from ntkengine.verify import FULL, QUICK

    drawn = 0
    for path in draw(into, only):
        out.print(str(path))
        drawn += 1
    if not drawn:
        raise typer.BadParameter(f"no figure has the words {only!r}", param_hint="--only")
    if only:
        return
    err.print("Measuring the claims; this takes a minute or more.")
    with (into / "report.md").open("w", encoding="utf-8") as page:
        page.writelines(report(FULL if full else QUICK))
    out.print(str(into / "report.md"))
