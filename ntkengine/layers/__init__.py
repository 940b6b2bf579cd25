"""Layers: fields, finite map and infinite-width rule in one class each."""

from typing import Annotated, Any, cast

from pydantic import Field
from pydantic.dataclasses import rebuild_dataclass

from ntkengine.activations import AnyActivation
from ntkengine.layers.containers import Parallel, Repeat, Serial
from ntkengine.layers.dense import Dense
from ntkengine.layers.plain import Aggregate, Identity

AnyLayer = Annotated[
    Dense | Aggregate | Identity | Parallel | Repeat | Serial | AnyActivation, Field(discriminator="kind")
]
"""Every layer, told apart by `kind`."""

for container in (Parallel, Repeat, Serial):
    rebuild_dataclass(cast("Any", container), force=True, _types_namespace={"AnyLayer": AnyLayer})

__all__ = ["Aggregate", "AnyLayer", "Dense", "Identity", "Parallel", "Repeat", "Serial"]
