"""Specs: frozen, keyword-only data that JSON and Python write the same way. No torch here."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

T = TypeVar("T")


@cache
def _docstrings(file: str) -> dict[str, dict[str, str]]:
    """The docstring under each field of each class in a source file."""
    return {
        node.name: {
            field.target.id: inspect.cleandoc(text)
            for field, below in pairwise(node.body)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if isinstance(text := below.value.value, str)
        }
        for node in ast.parse(Path(file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }


def _describe_fields(schema: dict[str, Any], cls: type) -> None:
    """Do what `use_attribute_docstrings` does, but only for who asks for a JSON schema.

    pydantic reads the source of each class when it is made: a third of what it took to import this package.
    """
    for owner in reversed(cls.__mro__[:-1]):
        for field, text in _docstrings(inspect.getfile(owner)).get(owner.__name__, {}).items():
            if field in schema.get("properties", {}):
                schema["properties"][field].setdefault("description", text)


CONFIG = ConfigDict(
    extra="forbid",
    allow_inf_nan=False,
    arbitrary_types_allowed=True,
    json_schema_extra=_describe_fields,
)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
def spec(cls: type[T]) -> type[T]:
    """A frozen, keyword-only pydantic dataclass that refuses unknown keys.

    The docstring under each field is its description in the JSON schema.
    """
    return cast("type[T]", dataclass(frozen=True, kw_only=True, config=CONFIG)(cls))


# Strict, so that `true` is no width and "3" no learning rate.
# Bounded, so that no formula made of some of them leaves the range of float64 by itself.
Count = Annotated[int, Field(ge=1, le=10**12, strict=True)]
NonNegativeInt = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]
Real = Annotated[float, Field(ge=-1e30, le=1e30, strict=True)]
Positive = Annotated[float, Field(ge=1e-30, le=1e30, strict=True)]
NonNegative = Annotated[float, Field(ge=0, le=1e30, strict=True)]


def from_jsonable(kind: Any, value: Any) -> Any:
    """The spec of class (or union) `kind` that `value`, decoded JSON, describes.

    Raises:
        pydantic.ValidationError: with the location of each offending field.
    """
    return TypeAdapter(kind).validate_python(value)


def to_jsonable(value: Any) -> Any:
    """Plain lists, dicts, numbers and strings from which `from_jsonable` makes the spec again."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")
