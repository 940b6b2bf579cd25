"""How often each fault was injected, and what became of what clients had been told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from ntkengine.dynamics import RunSpec
from ntkengine.spec import from_jsonable
from tests.service import double
from tests.service.server import JSONObject

DENSE = {"kind": "dense", "width": 1}
Point = tuple[Any, ...]


def spec(steps: int = 300, **changes: Any) -> JSONObject:
    """A run of the double."""
    training = {"kind": "gradient_descent", "learning_rate": 0.01, "steps": steps}
    return {
        "model": {"layers": [DENSE]},
        "data": {"x": [[1.0]], "y": [[1.0]]},
        "training": training,
        **changes,
    }


def uninterrupted(body: JSONObject) -> list[Point]:
    """What the double records when nothing happens to it, computed here."""
    segments = double.descend(from_jsonable(RunSpec, body), segment_seconds=60, calm=True)
    return [(point.step, point.values["loss"]) for segment in segments for point in segment.points]


def recorded(events: Iterable[JSONObject]) -> list[Point]:
    """Steps and losses of the points among the events."""
    return [(event["step"], event["loss"]) for event in events if event["kind"] == "point"]


@dataclass
class Account:
    """One row of the table; what is added to it is compared first and asserted then."""

    injected: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0

    def compare(self, found: Sequence[Point], expected: Sequence[Point]) -> None:
        """Both in the same order, every one once: to the last bit."""
        more = Counter(found) - Counter(expected)
        again = sum(min(count, point in expected) for point, count in more.items())
        self.lost += (Counter(expected) - Counter(found)).total()
        self.doubled += again
        self.wrong += more.total() - again or (list(found) != list(expected) and not more)
        assert list(found) == list(expected)

    def audit(self, events: list[JSONObject], expected: Sequence[Point], end: str = "finished") -> None:
        """All events of a job that has ended: numbered without gaps, its points those expected.

        Of a job that did not finish, as far as it got.
        """
        numbers = [event["seq"] for event in events]
        self.compare([(n,) for n in numbers], [(n,) for n in range(max(numbers, default=-1) + 1)])
        kinds = [event["kind"] for event in events]
        self.expect(kinds[-1:], [end])
        points = recorded(events)
        self.compare(points, expected if end == "finished" else expected[: len(points)])

    def expect(self, found: object, right: object) -> None:
        """A status, or what else is told, is right."""
        self.wrong += found != right
        assert found == right


class Ledger:
    """All accounts, by fault and database."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, str], Account] = {}

    def account(self, fault: str, database: str) -> Account:
        """The row of this fault; a new one has nothing in it."""
        return self._accounts.setdefault((fault, database), Account())

    def lines(self) -> list[str]:
        """The table."""
        titles = ("fault", "database", *(field.name for field in fields(Account)))
        rows = [titles, *(
            (*name, *map(str, astuple(account))) for name, account in self._accounts.items()
        )]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(
                cell.ljust(width) if n < 2 else cell.rjust(width)
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]


LEDGER = Ledger()
