"""The third-party files of the page are what the lock file says, and need nothing from elsewhere."""

import filecmp
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.web import STATIC

SCRIPT = Path(__file__).parents[2] / "scripts" / "vendor_web.sh"


def test_modules_name_each_other_by_relative_paths() -> None:
    modules = list((STATIC / "vendor").glob("*.js"))
    assert modules
    for module in modules:
        for name in re.findall(r'(?:from|import) ?"([^"\s]*)"', module.read_text()):
            assert name.startswith("./"), f"{module.name} imports {name}"
            assert (module.parent / name).is_file(), f"{module.name} imports {name}"


@pytest.mark.long
def test_the_script_reproduces_the_files_in_the_package(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or subprocess.run([npm, "ping"], check=False, capture_output=True, timeout=60).returncode:
        pytest.skip("NO NPM OR NO REGISTRY: the vendored files are not compared with their packages.")
    subprocess.run([SCRIPT, tmp_path], check=True, capture_output=True, timeout=300)
    ours = {
        "vendor": STATIC / "vendor",
        "swagger": STATIC / "swagger",
        "tests": Path(__file__).parent / "vendor",
    }
    for part, kept in ours.items():
        names = sorted(path.name for path in (tmp_path / part).iterdir())
        assert names == sorted(path.name for path in kept.iterdir())
        _same, different, unread = filecmp.cmpfiles(tmp_path / part, kept, names, shallow=False)
        assert (different, unread) == ([], [])
