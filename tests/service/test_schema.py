"""Whatever the OpenAPI document allows or forbids is answered as it says: never a 5xx, errors as problems."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import CheckContext
from schemathesis.openapi import from_url

from service.routes.documentation import PROBLEM_JSON
from tests.service.server import Server

# A body that is right by its schema may still contradict itself, or ask for what is not there.
BY_MEANING = ["2xx", "304", "404", "406", "409", "422"]
# Their bodies are networks and data, whose schemas nest without end: one takes as long as hundreds of others.
DEEP = re.compile(r"POST /(kernel/onnx|predict|(kernel|runs|regime|sweeps)(/estimate)?)")


@pytest.fixture(scope="module")
def operations(double: Server) -> list[Any]:
    """What the document of a real server has."""
    schema = from_url(f"http://127.0.0.1:{double.port}/openapi.json")
    schema.config.checks.positive_data_acceptance.expected_statuses = BY_MEANING
    results: Any = schema.get_all_operations()
    return [found.ok() for found in results]  # raises where the document is wrong


def errors_are_problems(_context: CheckContext, response: Response, _case: Case[Any]) -> None:
    if response.status_code >= 400:
        assert response.headers["content-type"] == [PROBLEM_JSON]
        assert response.json()["hint"]


def failures(operations: list[Any], wanted: Callable[[str], object], examples: int) -> dict[str, str]:
    """What was wrong with answers to requests by the document and against it, by operation."""
    found = {}
    for operation in operations:
        for mode in GenerationMode:
            if wanted(operation.label):
                try:
                    _check(operation, mode, examples)
                except* Unsatisfiable:  # nothing is forbidden here
                    pass
                except* Exception as group:  # noqa: BLE001 (all checks tell at once; the test shows them)
                    found[f"{operation.label}, {mode.value}"] = "\n".join(map(str, group.exceptions))
    return found


def _check(operation: Any, mode: GenerationMode, examples: int) -> None:
    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def answered_as_documented(case: Case[Any]) -> None:
        case.call_and_validate(additional_checks=[errors_are_problems], timeout=60)

    answered_as_documented()


def test_addresses(operations: list[Any]) -> None:
    assert len(operations) > 20
    assert failures(operations, lambda label: not DEEP.fullmatch(label), 4) == {}


def test_every_title_is_of_one_object(double: Server) -> None:
    """A generated client has one class for each title, and leaves out what would be a second."""
    document = double.client.get("/openapi.json").json()
    titles = Counter(titles_of_objects(document["components"]["schemas"]))
    assert {title: count for title, count in titles.items() if count > 1} == {}


def titles_of_objects(part: Any) -> Iterator[str]:
    """The titles of all schemas of objects within this one."""
    if isinstance(part, dict):
        if "properties" in part and isinstance(part.get("title"), str):
            yield part["title"]
        for inner in part.values():
            yield from titles_of_objects(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from titles_of_objects(inner)


@pytest.mark.verify
def test_addresses_at_length(operations: list[Any]) -> None:
    assert failures(operations, lambda label: not DEEP.fullmatch(label), 100) == {}


@pytest.mark.verify
def test_networks_at_length(operations: list[Any]) -> None:
    assert failures(operations, DEEP.fullmatch, 30) == {}
