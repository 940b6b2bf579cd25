"""The pages that are made from the code, from measurements and from the notes' experiments."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
MEASURED = DOCS.parent / "benchmarks" / "results" / "latest.json"
FIGURES = (
    "quadratic_one_neuron",
    "linear_one_neuron",
    "linear_standard_10",
    "quadratic_ntk_1000",
    "quadratic_standard_1000",
    "quadratic_mean_field_10",
)

Tree = Mapping[str, Any]


def cell(text: str) -> str:
    """Text that does not end its cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


# HTTP


def kind_of(schema: Tree) -> str:
    """A schema in a word or two."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(kind_of(each) for each in schema[several]))
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def operation_lines(method: str, path: str, operation: Tree) -> Iterator[str]:
    """A section on one operation."""
    yield f"### `{method.upper()} {path}`\n"
    yield f"**{operation['summary']}.** {operation.get('description', '')}\n"
    for each in operation.get("parameters", []):
        yield f"- `{each['name']}` ({each['in']}): {cell(each.get('description', ''))}"
    yield ""
    body = operation.get("requestBody", {}).get("content", {})
    yield from (
        f"Takes {media}: {kind_of(what['schema'])}.\n" for media, what in body.items() if "schema" in what
    )
    for status, answer in operation["responses"].items():
        shapes = {
            kind_of(what["schema"]) for what in answer.get("content", {}).values() if what.get("schema")
        }
        shown = f" ({', '.join(sorted(shapes))})" if shapes else ""
        yield f"- **{status}**{shown}: {cell(answer['description'])}"
    yield ""


def schema_lines(name: str, schema: Tree) -> Iterator[str]:
    """A section on one object of requests or answers."""
    yield f"({name.lower()})=\n### {name}\n"
    yield f"{schema.get('description', '')}\n"
    required = schema.get("required", [])
    if "properties" in schema:
        yield "| field | type | meaning |\n| --- | --- | --- |"
    else:
        yield f"{kind_of(schema)}\n"
    for field, what in schema.get("properties", {}).items():
        default = f" Default: `{json.dumps(what['default'])}`." if "default" in what else ""
        name = f"**`{field}`**" if field in required else f"`{field}`"
        yield f"| {name} | {cell(kind_of(what))} | {cell(what.get('description', '') + default)} |"
    yield ""


def http() -> Iterator[str]:
    """The page of the service: what it can be asked, and of what shape questions and answers are."""
    from service.app import create_app

    document: dict[str, Any] = create_app().openapi()
    yield "# HTTP\n"
    yield (
        "From the OpenAPI document, which a running service has at `/openapi.json` and, to read and to try, "
        "at `/docs`. Errors are problem details (RFC 9457) with a pointer into the request and a hint.\n"
    )
    yield "## Operations\n"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield from operation_lines(method, path, operation)
    yield "## Objects\n\nFields in bold have to be given.\n"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from schema_lines(name, schema)


# Settings and commands


def settings() -> Iterator[str]:
    """The page of the settings."""
    from service.settings import Settings

    yield "# Settings\n"
    yield "Each is an environment variable, for `ntk serve`, `ntk worker` and `make run`. Empty, it is "
    yield "as good as not set.\n"
    yield "| variable | default | meaning |\n| --- | --- | --- |"
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default in (None, ()) else f"`{field.default}`"
        yield f"| `NTK_{name.upper()}` | {default} | {cell(field.description or '')} |"


def commands() -> str:
    """The page of the command line, by typer."""
    call = [sys.executable, "-m", "typer", "service.cli", "utils", "docs", "--name", "ntk"]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout


# Measurements


def shown(value: float | None, form: str = ".3g") -> str:
    """A number, or nothing where none was measured."""
    return "" if value is None else format(value, form)


def summary_lines(rows: list[Tree]) -> Iterator[str]:
    """Ours beside the fastest peer, a row each."""
    yield "## Side by side\n"
    yield "| work | ours, s | peer, s | peer | peer / ours | ours, MB | peer, MB | largest difference |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        cells = [
            cell(row["work"]),
            shown(row["ours_seconds"]),
            shown(row["peer_seconds"]),
            row.get("peer_name") or "",
            shown(row["peer_over_ours"], ".2f"),
            shown(row["ours_peak_mb"], "d"),
            shown(row["peer_peak_mb"], "d"),
            shown(row["difference"], ".0e"),
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield from (f"- {cell(row['work'])}: {cell(each)}" for row in rows for each in row["failures"])
    yield ""


def implementation_lines(rows: list[Tree]) -> Iterator[str]:
    """Every implementation of every tool."""
    yield "## Every implementation\n"
    yield "| work | tool | implementation | s | MB |\n| --- | --- | --- | --- | --- |"
    for row in rows:
        for each in row["implementations"]:
            time = shown(each["seconds"]) or cell(each["failure"] or "")
            tool = each.get("tool") or each["side"]
            memory = shown(each["peak_mb"], "d")
            yield f"| {cell(row['work'])} | {tool} | {each['implementation']} | {time} | {memory} |"
    yield ""


def comparison() -> Iterator[str]:
    """The page that puts us beside others, from what `make bench` wrote last."""
    yield "# Beside others\n"
    if not MEASURED.exists():
        yield "Nothing has been measured in this copy: `make bench` does."
        return
    found = json.loads(MEASURED.read_text())
    loads = [f"{found[key][0]:.1f}" for key in ("load_before", "load_after")]
    yield (
        f"Measured by `make bench` at {found['date']}, on {found['processor']} ({found['machine']}), "
        f"{found['threads']} threads of {found['cpus']} cores, load {loads[0]} before and {loads[1]} after. "
        "This page is made from the file that it wrote; run it to have yours.\n"
    )
    sides = found["versions"].items()
    yield (
        "; ".join(f"{side}: {', '.join(f'{n} {v}' for n, v in them.items())}" for side, them in sides) + ".\n"
    )
    yield (
        "Seconds are the shortest call, memory is the peak of a process. Where the ratio is below 1 the peer "
        "is faster. Kernels are compared, too: the last column is their largest difference, relative to the "
        "largest entry.\n"
    )
    yield from summary_lines(found["rows"])
    if any(row["implementations"] for row in found["rows"]):
        yield from implementation_lines(found["rows"])


# All of them


def generate() -> None:
    """Write the pages, and draw the figures that are missing."""
    from ntkengine.figures import catalogue
    from ntkengine.figures.style import saved

    reference = DOCS / "reference"
    (reference / "http.md").write_text("\n".join(http()))
    (reference / "settings.md").write_text("\n".join(settings()) + "\n")
    (reference / "command-line.md").write_text(commands())
    (DOCS / "comparison.md").write_text("\n".join(comparison()) + "\n")
    figures = DOCS / "images" / "notes"
    figures.mkdir(exist_ok=True)
    for name in FIGURES:
        if not (figures / f"{name}.svg").exists():
            list(saved(catalogue()[name].draw, figures / name))
