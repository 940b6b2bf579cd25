"""What commands share: where they print, and how they read settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from pydantic import ValidationError
from rich.console import Console

if TYPE_CHECKING:
    from service.settings import Settings

out = Console(highlight=False, markup=False, soft_wrap=True)
err = Console(highlight=False, markup=False, soft_wrap=True, stderr=True)


def settings_from(**given: Any) -> Settings:
    """The settings, with what was given on the command line before the environment."""
    from service.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"])
            err.print(f"{name} (NTK_{name.upper()}) is {problem['input']!r}: {problem['msg']}.", style="red")
        raise typer.Exit(2) from None


def give_up(reason: object) -> typer.Exit:
    """Say why a command ends without having done its work; raise what this returns."""
    err.print(str(reason), style="red")
    return typer.Exit(1)
