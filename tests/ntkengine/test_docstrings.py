"""The examples in docstrings run, and give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import ntkengine

MODULES = [info.name for info in pkgutil.walk_packages(ntkengine.__path__, "ntkengine.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_public_functions_have_examples() -> None:
    finder = doctest.DocTestFinder()
    functions = ("compute_kernel", "empirical_ntk", "infinite_kernel", "train")
    for name in functions:
        assert any(test.examples for test in finder.find(getattr(ntkengine, name), name)), name


def test_public_names_are_documented() -> None:
    assert all(getattr(ntkengine, name).__doc__ for name in ntkengine.__all__)
