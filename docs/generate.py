"""The pages that are made from the code: operations over HTTP, and the command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "reference"


def operations() -> Iterator[str]:
    """The lines of a page with every operation of the OpenAPI document."""
    from service.app import create_app

    document: dict[str, Any] = create_app().openapi()
    yield "# HTTP\n"
    yield "Every operation, with its fields and examples to try, is at `/docs` of a running service.\n"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"## `{method.upper()} {path}`\n"
            yield f"**{operation['summary']}.** {operation.get('description', '')}\n"
            parameters = operation.get("parameters", [])
            yield from (f"- `{each['name']}`: {each.get('description', '')}" for each in parameters)
            yield ""


def commands() -> str:
    """The page of the command line, by typer."""
    call = [sys.executable, "-m", "typer", "service.cli", "utils", "docs", "--name", "ntk"]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout


def generate() -> None:
    """Write both pages."""
    (HERE / "http.md").write_text("\n".join(operations()))
    (HERE / "command-line.md").write_text(commands())
