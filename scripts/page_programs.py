"""The programs in the pages of the documentation, and what they print.

    python scripts/page_programs.py docs/tutorial/*.md

The Python blocks of a page are one program. This runs it and writes under each block what that block prints;
`tests/test_docs.py` holds every page to it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n^```text\n(?P<shown>.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
BETWEEN = "=" * 20 + " next block"


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
        RuntimeError: the program fails.
    """
    program = f"\nprint({BETWEEN!r})\n".join(block.code for block in blocks(page))
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.split(f"{BETWEEN}\n")


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
