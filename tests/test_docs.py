"""The documentation: its programs print what the pages say, and the site builds without a warning.

Its commands run in `tests/web/test_readme.py`, beside a service.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.page_programs import blocks, printed
from scripts.run_notebook import drawn, load, ran
from scripts.run_notebook import printed as printed_under_cells

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PROGRAMS = [page for page in PAGES[1:] if "```python" in page.read_text() and page.stem != "clients"]
# Tests enter what `sh` says. `console` is what they cannot: it wants a registry, or a container engine.
KNOWN = {"python", "sh", "text", "console", "{toctree}", "{eval-rst}"}


@pytest.mark.long
@pytest.mark.parametrize("page", PROGRAMS, ids=lambda page: page.stem)
def test_programs_print_what_the_page_says(page: Path) -> None:
    text = page.read_text()
    assert printed(text, seconds=280) == [block.shown for block in blocks(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_says_what_it_is(page: Path) -> None:
    fences = re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)
    assert set(fences[0::2]) <= KNOWN
    assert set(fences[1::2]) <= {""}


@pytest.mark.long
def test_the_notebook_shows_what_it_gives() -> None:
    kept = load(DOCS / "notebook.ipynb")
    fresh = ran(kept)
    assert printed_under_cells(fresh) == printed_under_cells(kept)
    assert drawn(fresh) == drawn(kept)
    assert sum(drawn(kept)) >= 4


@pytest.mark.long
def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Links to pages and headings that are not there are warnings, too."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(DOCS),
        str(tmp_path),
    ]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "tutorial" / "kernel.html").is_file()
