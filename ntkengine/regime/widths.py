"""A model at other widths and output scales. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ntkengine.errors import SpecError, located, pointer_of
from ntkengine.layer import Site
from ntkengine.model import Model
from ntkengine.parameterizations import Role
from ntkengine.spec import from_jsonable, to_jsonable

INNER = ("layers", "branches")


def own_width(model: Model, in_shape: tuple[int, ...]) -> int:
    """The width of the widest layer with weights before the read-out: what the width of a network means here.

    Raises:
        SpecError: it has none, or one of its widths is missing.
    """
    with located("/model"):
        site = model.check_finite(in_shape)
        widths = [
            leaf.known_size(leaf.out_shape)
            for leaf in hidden_layers(site)
            if getattr(leaf.layer, "width", None)
        ]
        if not widths:
            raise SpecError(
                "the network has no hidden layer, so it is linear in its weights and has no width",
                pointer="/layers",
                hint="put a dense layer and an activation before the last layer",
            )
    return max(widths)


def hidden_layers(site: Site) -> list[Site]:
    """The layers with weights that others follow."""
    weighted = [leaf for leaf in site.leaves() if leaf.role is not None]
    return [leaf for leaf in weighted[:-1] if leaf.role is not Role.READOUT]


def at_width(model: Model, in_shape: tuple[int, ...], width: int) -> Model:
    """The same model with its widest hidden layer that wide, and its others in proportion."""
    share = width / own_width(model, in_shape)
    hidden = {pointer_of(leaf.path) for leaf in hidden_layers(model.place(in_shape))}
    layers = [
        rescaled(layer, f"/layers/{index}", hidden, lambda w: max(1, math.floor(w * share + 0.5)))
        for index, layer in enumerate(to_jsonable(model)["layers"])
    ]
    return replace(model, layers=tuple(from_jsonable(Model, {"layers": layers}).layers))


def rescaled(layer: Any, pointer: str, hidden: set[str], scale: Callable[[int], int]) -> Any:
    """A layer as JSON, nested ones too, with the widths of hidden layers passed through `scale`."""
    result = dict(layer)
    if pointer in hidden and layer.get("width"):
        result["width"] = scale(layer["width"])
    for field in INNER:
        if field in layer:
            result[field] = [
                rescaled(inner, f"{pointer}/{field}/{index}", hidden, scale)
                for index, inner in enumerate(layer[field])
            ]
    if layer.get("layer"):
        result["layer"] = rescaled(layer["layer"], f"{pointer}/layer", hidden, scale)
    return result
