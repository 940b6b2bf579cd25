"""Layers: fields, finite map and infinite-width rule in one class each."""

from typing import Annotated, Any, cast

from pydantic import Field
from pydantic.dataclasses import rebuild_dataclass

from ntkengine.activations import AnyActivation
from ntkengine.layers.containers import Serial
from ntkengine.layers.dense import Dense

AnyLayer = Annotated[Dense | Serial | AnyActivation, Field(discriminator="kind")]
"""Every layer, told apart by `kind`."""

rebuild_dataclass(cast("Any", Serial), force=True, _types_namespace={"AnyLayer": AnyLayer})

__all__ = ["AnyLayer", "Dense", "Serial"]
