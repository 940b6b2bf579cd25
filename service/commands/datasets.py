"""`ntk datasets`: what specs can name in the place of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.common import AsJson, Key, ServiceUrl, Url, answer, service_at, the_service
from service.commands.terminal import err

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.client import Client

datasets = typer.Typer(help="Data sets that specs name in the place of arrays.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="What specs are to call it.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(datasets, name="datasets")


@datasets.command("list")
def list_all(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """List the data sets of a service, or those of this machine (NTK_DATASETS)."""
    with service_at(url, key) as client:
        found = known(client)
    answer(found, lambda: _table(found), as_json=as_json)


@datasets.command("add")
def add(
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(
            help="A table (.csv, .arrow, .arrows) or arrays x, y, x_test, y_test (.npz).", exists=True
        ),
    ],
    y: Annotated[
        list[str] | None, typer.Option(help="A column that is a target; repeat it for more.")
    ] = None,
    one_hot: Annotated[bool, typer.Option("--one-hot", help="The target is a label.")] = False,
    test_rows: Annotated[
        int, typer.Option(help="How many of the last rows are the split `test`.", min=0)
    ] = 0,
    url: ServiceUrl = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Keep a data set at a service, for any later request.

    Specs that this machine computes name the data sets in the directory NTK_DATASETS.
    """
    with the_service(url, key) as client:
        try:
            added = client.add_dataset(name, file, y=y or (), one_hot=one_hot, test_rows=test_rows)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="FILE") from None
    found = [vars(added)]
    answer(found[0], lambda: _table(found), as_json=as_json)


@datasets.command("remove")
def remove(name: Name, url: ServiceUrl = None, key: Key = None) -> None:
    """Remove a data set from a service."""
    with the_service(url, key) as client:
        client.remove_dataset(name)
    err.print(f"Removed {name}.")


def known(client: Client | None) -> list[dict[str, Any]]:
    """All data sets, the built-in ones first, with the shapes of their arrays."""
    import os

    from ntkengine.datasets import BUILT_IN, VARIABLE, splits_of

    built_in = [{"name": name, "splits": _splits_of(name)} for name in BUILT_IN]
    if client is not None:
        return built_in + [vars(each) for each in client.datasets()]
    folder = Path(os.environ.get(VARIABLE, ""))
    kept = sorted(each for each in folder.iterdir() if each.is_dir()) if os.environ.get(VARIABLE) else []
    return built_in + [{"name": each.name, "splits": dict(splits_of(each))} for each in kept]


def _splits_of(name: str) -> dict[str, Any]:
    from ntkengine.datasets import BUILT_IN, Part, Split

    splits: Sequence[Split] = ("train", "test")
    parts: Sequence[Part] = ("x", "y")
    source = BUILT_IN[name]
    return {split: {part: source.shape(split, part) for part in parts} for split in splits}


def _table(found: list[dict[str, Any]]) -> Iterator[RenderableType]:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("split")
    for part in ("x", "y"):
        table.add_column(part)
    for each in found:
        for index, (split, shapes) in enumerate(each["splits"].items()):
            cells = [" x ".join(map(str, shapes[part])) if part in shapes else "" for part in ("x", "y")]
            table.add_row("" if index else each["name"], split, *cells)
    yield table
