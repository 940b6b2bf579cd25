"""`ntk experiments`: the catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.common import AsJson, Key, Url, answer, experiment_names, service_at

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.client import Client


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(experiments)


def experiments(
    name: Annotated[
        str | None, typer.Argument(help="Show this one, with its spec.", autocompletion=experiment_names)
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List the experiments of the catalogue, or show one."""
    with service_at(url, key) as client:
        found = catalogue(client)
    if name is None:
        answer(list(found.values()), lambda: _table(found), as_json=as_json)
    elif name in found:
        answer(found[name], lambda: _one(found[name]), as_json=as_json)
    else:
        known = ", ".join(found)
        raise typer.BadParameter(f"there is no experiment {name!r}; there are {known}", param_hint="NAME")


def catalogue(client: Client | None) -> dict[str, dict[str, Any]]:
    """All experiments by name, as a service tells of them."""
    from ntkengine.experiments import EXPERIMENTS
    from ntkengine.spec import to_jsonable

    if client is not None:
        return {each.name: vars(each) for each in client.experiments()}
    return {name: to_jsonable(each) for name, each in EXPERIMENTS.items()}


def _table(found: dict[str, dict[str, Any]]) -> Iterator[RenderableType]:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it shows")
    for name, each in found.items():
        table.add_row(name, f"{each['title']}. {each['shows']}")
    yield table
    yield "\nntk run NAME runs one; ntk experiments NAME shows its spec."


def _one(found: dict[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    yield Text(found["title"], style="bold")
    yield Text(found["shows"])
    for expected in found["expect"]:
        yield Text(f"  expect: {expected}")
    yield Text(json.dumps(found["spec"], indent=2))
