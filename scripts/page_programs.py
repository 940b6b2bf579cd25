"""The programs in the pages of the documentation, and what they print.

    python scripts/page_programs.py docs/tutorial/*.md

The Python blocks of a page are one program. This runs it and writes under each block what that block prints;
`tests/test_docs.py` holds every page to it.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n^```text\n(?P<shown>.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
BETWEEN = "=" * 20 + " next block"

# Programs are forks of a process that has loaded what takes longer than most of them: torch, the engine, and
# what the parent was started as, which a child imports.
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "ntkengine.dynamics", "ntkengine.empirical.subject"])


class Block(NamedTuple):
    """A block, and what stands under it."""

    code: str
    shown: str


def blocks(page: str) -> list[Block]:
    """The Python blocks of a page."""
    return [Block(found["code"], found["shown"] or "") for found in BLOCK.finditer(page)]


def printed(page: str, seconds: float = 600) -> list[str]:
    """What each block prints, run one after the other; warnings are errors.

    Raises:
        RuntimeError: the program fails, or takes longer.
    """
    program = f"\nprint({BETWEEN!r})\n".join(block.code for block in blocks(page))
    with TemporaryDirectory() as at:
        out, err = Path(at, "out"), Path(at, "err")
        err.touch()
        process = FORKS.Process(target=run, args=(program, out, err), daemon=True)
        process.start()
        process.join(seconds)
        if process.exitcode != 0:
            process.kill()
            raise RuntimeError(err.read_text() or f"it ended with {process.exitcode} (None: not at all)")
        return out.read_text().split(f"{BETWEEN}\n")


def run(program: str, out: Path, err: Path) -> None:
    """Be that program from here on."""
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    warnings.simplefilter("error")
    exec(compile(program, "page", "exec"), {"__name__": "__main__"})  # noqa: S102 (it is what the page says)


def filled(page: str, shown: list[str]) -> str:
    """The page with that under its blocks."""
    rest = iter(shown)

    def block(found: re.Match[str]) -> str:
        text = next(rest)
        under = f"\n```text\n{text}```\n" if text else ""
        return f"```python\n{found['code']}```\n{under}"

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        text = path.read_text()
        path.write_text(filled(text, printed(text)))
