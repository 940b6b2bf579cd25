"""Figures and the report of the notes' claims."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from ntkengine.figures import catalogue, draw
from ntkengine.figures.report import OWN, STATEMENTS, report
from ntkengine.verify import QUICK, claims


@pytest.mark.parametrize(
    "name", ["new_point", "linear_one_neuron", "linear_standard_100", "quadratic_ntk_10_scaled"]
)
def test_a_figure_is_a_png_and_an_svg(name: str, tmp_path: Path) -> None:
    png, svg = draw(tmp_path, name)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert png.stat().st_size > 20_000  # an empty canvas has a tenth of that
    assert "<svg" in svg.read_text()


def test_a_figure_for_every_run_of_the_notes() -> None:
    assert {"linear_standard_1", "linear_standard_100", "quadratic_ntk_1000"} <= set(catalogue())


def test_statements_rest_on_claims_that_exist() -> None:
    known = {claim.about for claim in (*claims(), *OWN)}
    assert all(set(each.evidence) <= known and each.evidence for each in STATEMENTS)


def test_the_report_says_what_is_measured() -> None:
    first, saddle = STATEMENTS[0], STATEMENTS[-1]
    _, one, last = report(QUICK, (first, saddle))
    assert "| yes |" in one
    assert "77.0625" in one.split("|")[3]
    assert "| no |" in last
    assert "25 % of the loss left" in last
