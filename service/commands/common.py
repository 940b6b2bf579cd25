"""What commands that compute share: what they read, where they compute, how they say what came of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from service.commands.terminal import err, give_up, out

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.client import Client

T = TypeVar("T")


def experiment_names(incomplete: str) -> list[str]:
    """For the shell's completion."""
    return [name for name in local_experiments() if name.startswith(incomplete)]


# No autocompletion of files: a completion of ours would take the shell's place.
SpecSource = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="A file with the spec in JSON, - for standard input, or an experiment's name: `ntk experiments` "
        "lists them.",
        autocompletion=experiment_names,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change the spec: training.learning_rate=0.1, model.layers.0.width=64, seed=null to remove. "
        "VALUE is JSON; an object is merged into what is there. Repeat it for more.",
    ),
]
Url = Annotated[
    str | None,
    typer.Option(envvar="NTK_URL", help="Address of a service to ask; without it, this machine computes."),
]
ServiceUrl = Annotated[
    str | None,
    typer.Option(envvar="NTK_URL", help="Address of the service; without it, http://127.0.0.1:8000."),
]
Key = Annotated[str | None, typer.Option(envvar="NTK_KEY", help="Key for that service.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, as is done where no terminal reads it.")]


ASKED_WRONGLY = frozenset({400, 404, 405, 406, 413, 415, 422})


@dataclass(frozen=True)
class Asked:
    """What is asked for."""

    spec: Any
    """The spec as JSON, changes made."""
    experiment: str | None = None
    """The experiment that it was made of."""
    overrides: Any = None
    """What was changed, as a merge patch of the experiment's spec."""


def read(source: str, changes: Sequence[str] | None, experiments: Callable[[], Mapping[str, Any]]) -> Asked:
    """The spec that a command's arguments name.

    Args:
        experiments: the specs of the catalogue by name, asked for only where it is needed.

    Raises:
        typer.BadParameter: there is no such file or experiment, or a change cannot be read.
        ServiceError: what was read is no JSON.
    """
    patch: Any = reduce(_both, map(_patch, changes or []), {})
    if source == "-":
        return Asked(merged(_decoded(sys.stdin.buffer.read()), patch))
    if Path(source).is_file():
        return Asked(merged(_decoded(Path(source).read_bytes()), patch))
    known = experiments()
    if source not in known:
        raise typer.BadParameter(
            f"there is no file and no experiment {source!r}; the experiments are {', '.join(known)}",
            param_hint="SPEC",
        )
    base = known[source]
    return Asked(merged(base, patch), source, with_whole_lists(base, patch))


def _decoded(data: bytes) -> Any:
    from service.routes.strict_json import decode

    return decode(data)


def _patch(change: str) -> Any:
    """`a.b=1` as {"a": {"b": 1}}; what is no JSON is a string."""
    place, equals, text = change.partition("=")
    if not (place and equals):
        raise typer.BadParameter(f"{change!r} is not KEY=VALUE, such as training.steps=9", param_hint="--set")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return reduce(lambda inner, key: {key: inner}, reversed(place.split(".")), value)


def _both(first: Any, second: Any) -> Any:
    """Two patches as one; a null of either stays, to remove what it stands at."""
    if not (isinstance(first, Mapping) and isinstance(second, Mapping)):
        return second
    return {**first, **{key: _both(first.get(key), value) for key, value in second.items()}}


def merged(target: Any, patch: Any) -> Any:
    """A merge patch (RFC 7396), which can also change single entries of a list: {"0": ...}."""
    if not isinstance(patch, Mapping):
        return patch
    if isinstance(target, list):
        return _merged_list(target, patch)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _merged_list(target: list[Any], patch: Mapping[str, Any]) -> list[Any]:
    result = list(target)
    for key, value in patch.items():
        if not (key.isdecimal() and int(key) < len(target)):
            raise typer.BadParameter(
                f"{key!r} is no entry of a list of {len(target)}: count from 0", param_hint="--set"
            )
        result[int(key)] = merged(result[int(key)], value)
    return result


def with_whole_lists(target: Any, patch: Any) -> Any:
    """The same change as a plain RFC 7396 patch, which knows lists only as a whole."""
    if not isinstance(patch, Mapping):
        return patch
    if isinstance(target, list):
        return merged(target, patch)
    inner = target if isinstance(target, Mapping) else {}
    return {key: with_whole_lists(inner.get(key), value) for key, value in patch.items()}


def local_experiments() -> dict[str, Any]:
    """The specs of the catalogue as JSON, by name."""
    from ntkengine.experiments import EXPERIMENTS
    from ntkengine.spec import to_jsonable

    return {name: to_jsonable(each.spec) for name, each in EXPERIMENTS.items()}


def experiments_of(client: Client | None) -> Callable[[], Mapping[str, Any]]:
    """The catalogue of a service, or that of this machine."""
    if client is None:
        return local_experiments
    return lambda: {each.name: each.spec for each in client.experiments()}


def spec_of(kind: type[T], body: Any) -> T:
    """The spec that JSON describes.

    Raises:
        ServiceError: with the pointers of the fields that are wrong.
    """
    from pydantic import ValidationError

    from ntkengine.spec import from_jsonable
    from service.errors import invalid

    try:
        found: T = from_jsonable(kind, body)
    except ValidationError as error:
        raise invalid([{**each, "loc": ("body", *each["loc"])} for each in error.errors()], body) from None
    return found


@contextmanager
def service_at(url: str | None, key: str | None) -> Iterator[Client | None]:
    """A client of the service at that address; None where there is none, so that this machine computes.
    What goes wrong inside is told.
    """
    if url is None:
        with telling(None):
            yield None
    else:
        with the_service(url, key) as client:
            yield client


@contextmanager
def the_service(url: str | None, key: str | None) -> Iterator[Client]:
    """A client of the service at that address, or else at the usual one; what goes wrong inside is told."""
    from service.client import Client
    from service.client.settings import DEFAULT_URL

    url = url or DEFAULT_URL
    try:
        client = Client(url, key=key)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None
    with telling(url), client:
        yield client


@contextmanager
def telling(url: str | None) -> Iterator[None]:
    """What goes wrong inside is told, with what to do, and ends the command: with 2 if what was asked for
    must be changed, with 1 if the work failed.
    """
    from ntkengine.errors import EngineError
    from service.client import ConnectionLost, ProblemError
    from service.errors import ServiceError, from_engine

    try:
        yield
    except EngineError as error:
        raise _told(from_engine(error).problem("").model_dump(exclude_none=True)) from None
    except ServiceError as error:
        raise _told(error.problem("").model_dump(exclude_none=True)) from None
    except ProblemError as error:
        raise _told({**error.members, "status": error.status}) from None
    except ConnectionLost as error:
        hint = "Is a service running there? `ntk serve` starts one on this machine."
        raise _told({"detail": f"{url}: {error}", "status": 503, "hint": hint}) from None


def _told(problem: Mapping[str, Any]) -> typer.Exit:
    """Tell of a problem (RFC 9457); raise what this returns."""
    said = problem.get("detail") or problem.get("title")
    err.print(f"Error: {said}", style="red")
    hints = []
    for offence in problem.get("errors", []):
        if offence["pointer"] or offence["detail"] != said:  # not what was said, once more
            err.print(f"  {offence['pointer'] or '/'}: {offence['detail']}")
        hints.append(offence.get("hint"))
    for name in ("estimate", "limit"):
        if name in problem:
            err.print(f"  {name}: {json.dumps(problem[name])}")
    for hint in dict.fromkeys([*hints, problem.get("hint")]):
        if hint:
            err.print(f"  {hint}")
    numerical = str(problem.get("type", "")).endswith(":numerical")
    return typer.Exit(2 if problem["status"] in ASKED_WRONGLY and not numerical else 1)


def wants_json(as_json: bool) -> bool:
    """Whether JSON is to be printed: it was asked for, or no terminal reads it."""
    return as_json or not out.is_terminal


def print_json(value: Any) -> None:
    """One line of JSON; arrays are nested lists."""
    from service.encoding import dumps

    typer.echo(dumps(value))


def answer(value: Any, readable: Callable[[], Iterable[RenderableType]], *, as_json: bool) -> None:
    """Print an answer: for people what `readable` makes of it, for programs its JSON."""
    if wants_json(as_json):
        print_json(value)
        return
    for part in readable():
        out.print(part)


def facts_table(facts: Mapping[str, Any]) -> RenderableType:
    """Names and values, those within values beside them."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), _words(value))
    return table


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_words(inner)}" for name, inner in value.items())
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)


def check_out(path: Path | None, *suffixes: str) -> None:
    """Refuse, before anything is computed, a file of a kind that is not written, or with no place for it."""
    if path is None:
        return
    if path.suffix not in suffixes:
        raise typer.BadParameter(f"{path} does not end in {' or '.join(suffixes)}", param_hint="--out")
    if not os.access(path.parent, os.W_OK):
        said = "nothing can be written in" if path.parent.is_dir() else "there is no directory"
        raise typer.BadParameter(f"{said} {path.parent}", param_hint="--out")


def write(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file; a name has all of it or what it had before."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.writelines(pieces)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise give_up(f"{path} could not be written: {error.strerror}") from None
