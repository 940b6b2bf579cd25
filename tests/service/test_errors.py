"""Where a problem points."""

from __future__ import annotations

from typing import Any

import pytest

from ntkengine.errors import NumericalError, ResourceError, SpecError
from service.errors import KINDS, from_engine, from_parts, invalid


@pytest.mark.parametrize(
    ("loc", "kind", "pointer"),
    [
        (("layers", 0, "dense", "width"), "greater_than_equal", "/layers/0/width"),
        (("layers", 0, "dense", "widht"), "extra_forbidden", "/layers/0/widht"),
        (("layers", 0, "dense", "law"), "missing", "/layers/0/law"),
        (("layers", 0), "union_tag_invalid", "/layers/0"),
        (("layers", 0, "width", "int"), "int_type", "/layers/0/width"),
        (("a/b", "c~d"), "int_type", "/a~1b/c~0d"),
        ((), "dict_type", ""),
    ],
)
def test_pointer_has_no_names_of_union_members(loc: tuple[Any, ...], kind: str, pointer: str) -> None:
    body = {"layers": [{"kind": "dense", "width": -1, "widht": 1}], "a/b": {"c~d": 1}}
    error = {"type": kind, "loc": ("body", *loc), "msg": "wrong", "input": 1}
    assert invalid([error], body).offences[0].pointer == pointer


def test_what_members_of_a_union_say_alike_is_said_once() -> None:
    errors = [
        {"type": "float_type", "loc": ("body", "x", member), "msg": "no number", "input": None}
        for member in ("float", "list[float]")
    ]
    assert len(invalid(errors, {"x": None}).offences) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SpecError("wrong", pointer="/x"), "invalid"),
        (NumericalError("overflow", hint="scale"), "numerical"),
        (ResourceError("large", estimate={"flops": 2}, limit={"flops": 1}), "too-costly"),
    ],
)
def test_errors_of_the_engine(error: Any, kind: str) -> None:
    problem = from_engine(error).problem("id")
    assert problem.type == f"urn:ntkengine:problem:{kind}"
    assert problem.status == KINDS[kind].status
    assert problem.hint == error.hint or KINDS[kind].hint
    assert problem.estimate == getattr(error, "estimate", None)


def test_unknown_category_is_our_failure() -> None:
    assert from_parts({"category": "engine", "detail": "?"}).kind == "internal"
