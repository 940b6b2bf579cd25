"""`ntk predict`: training in closed form, here or by a service."""

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

    from service.client import Prediction

MOST_SHOWN = 12  # moments, and outputs of each


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(predict)


def predict(
    spec: SpecSource,
    changes: Changes = None,
    out: Annotated[Path | None, typer.Option(help="File for the arrays, .npz.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Predict training in closed form, by the kernel.

    The spec is what `POST /predict` takes; an experiment's name stands for its network and data, trained by
    gradient flow to the end.
    """
    check_out(out, ".npz")
    with service_at(url, key) as client:
        asked = read(spec, changes, lambda: {n: of_run(s) for n, s in experiments_of(client)().items()})
        with err.status("Computing ...") if err.is_terminal else nullcontext():
            found = _here(asked.spec) if client is None else client.predict(asked.spec)
        if out is not None:
            from service.encoding import npz

            write(out, [npz({"times": found.times, **found.arrays}, found.facts)])
    steps = {} if found.steps is None else {"steps": found.steps}
    times = ["inf" if time == float("inf") else time for time in found.times.tolist()]
    arrays: dict[str, Any] = dict(found.arrays) if out is None else {"out": str(out)}
    answer({"times": times, **steps, **found.facts, **arrays}, lambda: readable(found, out), as_json=as_json)


def of_run(run: Any) -> Any:
    """What is predicted of an experiment."""
    return {"model": run["model"], "data": run["data"]}


def _here(body: Any) -> Prediction:
    import numpy as np

    from ntkengine.predict import PredictSpec
    from ntkengine.spec import to_jsonable
    from service.client import Prediction
    from service.encoding import Message
    from service.runs import predictions

    found = predictions.predict(Message(to_jsonable(spec_of(PredictSpec, body))))
    return Prediction.of({"times": np.array(found.header["times"], float), **found.arrays}, found.header)


def readable(found: Prediction, out: Path | None) -> Iterator[RenderableType]:
    """What is known of the kernel, and outputs at each moment, where there are few."""
    from rich.table import Table
    from rich.text import Text

    facts = {name: found.facts[name] for name in ("method", "scaling", "diagnostics", "learning_rate_limit")}
    yield facts_table(facts)
    moments = Table(box=None, pad_edge=False)
    columns = {"time": found.times, **({} if found.steps is None else {"step": found.steps})}
    outputs = {name: values for name, values in found.arrays.items() if name.startswith(("loss", "mean"))}
    for name in (*columns, *outputs):
        moments.add_column(name, justify="right")
    for index in range(min(len(found.times), MOST_SHOWN)):
        cells = [f"{axis[index]:g}" for axis in columns.values()]
        moments.add_row(*cells, *(shortly(values[index].ravel()) for values in outputs.values()))
    yield moments
    yield Text(f"Time is {found.facts['time_unit']}.")
    yield Text(
        "--out FILE.npz keeps the arrays; --json prints them." if out is None else f"Written to {out}."
    )
    for warning in found.warnings:
        yield Text(f"Note: {warning}", style="yellow")


def shortly(values: Any) -> str:
    """A few numbers, and that there are more."""
    more = " ..." if len(values) > MOST_SHOWN else ""
    return " ".join(f"{value:.4g}" for value in values[:MOST_SHOWN]) + more
