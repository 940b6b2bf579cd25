"""Weights of a finite network by name: drawn from a seed, or given and checked. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.errors import SpecError, located
from ntkengine.layer import RowStreams, Site

Weights = Mapping[str, Any]  # arrays by name, "layers.0.W"
Arrays = dict[str, NDArray[np.float64]]


def draw(site: Site, seed: int) -> Arrays:
    """Raw weights of every layer; each layer has its own stream, keyed by its path."""
    drawn = {}
    for leaf in site.leaves():
        key = tuple(int(step) for step in leaf.path.split(".") if step.isdigit())
        for name, array in leaf.layer.draw(leaf, RowStreams(seed, key)).items():
            drawn[f"{leaf.path}.{name}"] = array
    return drawn


def expected_shapes(site: Site) -> dict[str, tuple[int, ...]]:
    """Shape of every trained tensor of a finite network, by name."""
    return {
        f"{leaf.path}.{name}": shape
        for leaf in site.leaves()
        for name, shape in leaf.layer.shapes(leaf).items()
    }


def checked(site: Site, weights: Weights) -> Arrays:
    """The weights as arrays, their names and shapes compared with the spec's."""
    expected = expected_shapes(site)
    if missing := sorted(expected.keys() - weights.keys()):
        raise SpecError(f"weights are missing: {some(missing)}", hint=f"give {some(list(expected))}")
    if unknown := sorted(weights.keys() - expected.keys()):
        raise SpecError(
            f"unknown weights: {some(unknown)}",
            pointer=f"/{escaped(unknown[0])}",
            hint=f"the network has {some(list(expected))}",
        )
    arrays = {name: np.asarray(weights[name], dtype=np.float64) for name in expected}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise SpecError(
                f"{name} has shape {arrays[name].shape}, the network needs {shape}",
                pointer=f"/{name}",
                hint="W is (fan-in, width) in dense layers, (*filter_shape, channels, width) in convolutions",
            )
    return arrays


def some(names: list[str], most: int = 8) -> str:
    """A list of names that may be long."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


def escaped(name: str) -> str:
    """A name as a step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def check_not_random(site: Site) -> None:
    """What needs a function must not get another one in each pass."""
    for leaf in site.leaves():
        if leaf.random:
            raise leaf.unsupported(
                f"{leaf.layer.kind} draws anew in every pass, so the network is no function of its inputs",
                'use "mode": "test", the infinite-width kernel, or a Monte-Carlo kernel',
            )


def check_start(site: Site, seed: int | None, weights: Weights | None) -> None:
    """A network starts from a seed or from weights that fit, not from both."""
    if seed is not None and weights is not None:
        raise SpecError("seed and weights were both given", pointer="/weights", hint="give one of them")
    if weights is not None:
        with located("/weights"):
            checked(site, weights)
