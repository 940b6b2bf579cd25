"""The documentation: its code runs, and prints what the pages say; the site builds without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [path for path in DOCS.rglob("*.md") if "```python" in path.read_text()]
BETWEEN = "=" * 20 + " next block"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_prints_what_the_page_says(page: Path) -> None:
    """The blocks of a page are one program; under each stands what it prints."""
    found = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(found) == page.read_text().count("```python")
    run = python("-c", f"\nprint({BETWEEN!r})\n".join(code for code, _ in found))
    assert run.returncode == 0, run.stderr
    assert run.stdout.split(f"{BETWEEN}\n") == [shown for _, shown in found]


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    run = python("-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "tutorial.html").is_file()
