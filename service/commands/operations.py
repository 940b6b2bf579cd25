"""For those who operate the service: keys, and copies of all that it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.access.keys import Scope, new_key
from service.commands.terminal import err, give_up, out, settings_from

keys = typer.Typer(help="Keys for the service.", no_args_is_help=True)
DataDir = Annotated[Path | None, typer.Option(help="Where jobs are kept (NTK_DATA_DIR).")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(keys, name="keys")
    app.command()(backup)
    app.command()(restore)


@keys.callback()
def about_keys() -> None:
    """Keys for the service."""


@keys.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is, as logs will call it.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do; repeat it for more. Default: read and compute."),
    ] = None,
) -> None:
    """Make a key: print it, once, and the entry to store for the service."""
    try:
        secret, key = new_key(name, scope or [Scope.READ, Scope.COMPUTE])
    except ValueError:
        raise give_up("A name is 1 to 64 letters, digits, dots, dashes and underscores.") from None
    err.print("The key, for its holder; it is shown this once:")
    out.print(secret)
    err.print("The entry, for NTK_API_KEYS or a line of the file NTK_API_KEYS_FILE:")
    out.print(str(key))


def backup(
    destination: Annotated[Path, typer.Argument(help="Directory to make; it must not exist.")],
    data_dir: DataDir = None,
) -> None:
    """Copy all that the service keeps, also while it works."""
    from service.store import backup as copies

    try:
        copies.backup(settings_from(data_dir=data_dir).data_dir, _database(data_dir), destination)
    except (copies.NotCopied, OSError) as error:
        raise give_up(f"Nothing was backed up: {error}") from None
    out.print(f"Backed up to {destination}.")


def restore(
    source: Annotated[Path, typer.Argument(help="Directory that `ntk backup` has made.")],
    data_dir: DataDir = None,
) -> None:
    """Bring a backup back into an empty data directory; jobs that had not ended go on at the next start."""
    from service.store import backup as copies

    try:
        copies.restore(source, settings_from(data_dir=data_dir).data_dir, _database(data_dir))
    except (copies.NotCopied, OSError) as error:
        raise give_up(f"Nothing was restored: {error}") from None
    out.print("Restored. `ntk serve` goes on from here.")


def _database(data_dir: Path | None) -> Path:
    """The file of the database."""
    from sqlalchemy import make_url

    url = make_url(settings_from(data_dir=data_dir).resolved_database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise give_up(
            "The database is no SQLite file: copy it with its own tools (pg_dump, pg_restore), "
            "and the data directory after it."
        )
    return Path(url.database)
