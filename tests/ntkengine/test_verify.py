"""The table of claims: its short form, and that it can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ntkengine.verify import QUICK, Claim, claims, verify
from ntkengine.verify.claim import below, equal, every, inside
from ntkengine.verify.exact import infinite_width, start_of_the_neuron

# The others take a minute together, and run in the long form.
LATER = ("velocity", "growth", "Standard, linear", "relu")
SOON = [each for each in claims() if not any(words in each.about for words in LATER)]


def by_run(some: list[Claim]) -> dict[str, list[Claim]]:
    """Claims that share their networks, to be measured by one test: two processes would train them twice."""
    found: dict[str, list[Claim]] = {}
    for claim in some:
        found.setdefault(claim.run or claim.about, []).append(claim)
    return found


def wrong(some: list[Claim]) -> dict[str, str]:
    """What was measured of those that do not hold."""
    found = {claim.about: claim.measure(QUICK) for claim in some}
    return {about: each.measured for about, each in found.items() if not each.holds}


NOW = by_run(SOON)
THEN = by_run([each for each in claims() if each not in SOON])


@pytest.mark.long
@pytest.mark.parametrize("run", NOW)
def test_holds(run: str) -> None:
    assert wrong(NOW[run]) == {}


@pytest.mark.verify
@pytest.mark.parametrize("run", THEN)
def test_holds_too(run: str) -> None:
    assert wrong(THEN[run]) == {}


def test_a_claim_can_fail() -> None:
    assert not equal([1.0, 2.0], [1.0, 2.1], 1e-3).holds
    assert not below(2e-5, 1e-5).holds
    assert not inside(-0.8, -1.0, -0.9).holds
    assert not every([inside(0.5, 0.0, 1.0), inside(2.0, 0.0, 1.0)]).holds
    assert not below(float("nan"), 1.0).holds


def test_lines_say_what_was_measured() -> None:
    (line,) = verify(replace(QUICK, seeds=2), only="kernel at the start")
    assert line.holds == start_of_the_neuron(QUICK).holds
    assert "77.0625" in line.measured
    assert "1.49028" in infinite_width(QUICK).measured
