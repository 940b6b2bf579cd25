"""`ntk kernel`: kernel matrices, here or by a service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.common import (
    AsJson,
    Changes,
    Key,
    SpecSource,
    Url,
    answer,
    check_out,
    experiments_of,
    facts_table,
    read,
    service_at,
    spec_of,
    write,
)
from service.commands.terminal import err

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.client import Client, Kernels

MOST_SHOWN = 8  # rows and columns that still fit a terminal


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(kernel)


def kernel(
    spec: SpecSource,
    changes: Changes = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the matrices: .npy for one kernel, .npz for all.")
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Compute the kernels of a network on data.

    The spec is what `POST /kernel` takes; an experiment's name stands for its network and training inputs.
    """
    check_out(out, ".npy", ".npz")
    with service_at(url, key) as client:
        asked = read(spec, changes, lambda: {n: of_run(s) for n, s in experiments_of(client)().items()})
        with err.status("Computing ...") if err.is_terminal else nullcontext():
            found = _here(asked.spec) if client is None else _there(client, asked.spec)
        if out is not None:
            _save(out, found)
    told = {**found.facts, "shape": next(iter(found.arrays.values())).shape}
    matrices: dict[str, Any] = {"kernels": found.arrays} if out is None else {"out": str(out)}
    answer(told | matrices, lambda: readable(found, out), as_json=as_json)


def of_run(run: Any) -> Any:
    """The kernel of an experiment."""
    return {"model": run["model"], "x1": run["data"]["x"]}


def _here(body: Any) -> Kernels:
    from ntkengine.kernels import KernelSpec
    from ntkengine.spec import to_jsonable
    from service.client import Kernels
    from service.encoding import Message
    from service.runs import child

    found = child.kernel(Message(to_jsonable(spec_of(KernelSpec, body))))
    return Kernels(found.arrays, found.header)


def _there(client: Client, body: Any) -> Kernels:
    from service.client.operations import Operations

    return client.perform(Operations(client.patience).kernel(body))


def _save(path: Path, found: Kernels) -> None:
    from service.encoding import npy, npz

    if path.suffix == ".npz":
        write(path, [npz(found.arrays, found.facts)])
        return
    if len(found.arrays) > 1:
        raise typer.BadParameter(
            f"an .npy holds one array, these are {' and '.join(found.arrays)}: "
            'take .npz, or --set of.get=["ntk"]',
            param_hint="--out",
        )
    write(path, [npy(next(iter(found.arrays.values())))])


def readable(found: Kernels, out: Path | None) -> Iterator[RenderableType]:
    """How they were computed, what is known of them, and small ones themselves."""
    from rich.text import Text

    facts: dict[str, Any] = dict(found.facts)
    plan, warnings = facts.pop("plan", None) or {}, facts.pop("warnings", ())
    yield facts_table({"implementation": plan.get("implementation"), **facts})
    for name, matrix in found.arrays.items():
        yield Text(f"\n{name} {matrix.shape}", style="bold")
        if max(matrix.shape) <= MOST_SHOWN:
            yield Text(str(matrix))
    if out is not None:
        yield Text(f"Written to {out}.")
    elif any(max(matrix.shape) > MOST_SHOWN for matrix in found.arrays.values()):
        yield Text("--out FILE.npz keeps the matrices; --json prints them.")
    for warning in warnings:
        yield Text(f"Note: {warning}", style="yellow")
