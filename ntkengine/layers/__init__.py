"""Layers: fields, finite map and infinite-width rule in one class each."""

from typing import Annotated, Any, cast

from pydantic import Field
from pydantic.dataclasses import rebuild_dataclass

from ntkengine.activations import AnyActivation
from ntkengine.layers.attention import Attention
from ntkengine.layers.containers import Parallel, Repeat, Serial
from ntkengine.layers.conv import Conv
from ntkengine.layers.conv_local import ConvLocal
from ntkengine.layers.conv_transpose import ConvTranspose
from ntkengine.layers.dense import Dense
from ntkengine.layers.dropout import Dropout
from ntkengine.layers.mask import Mask
from ntkengine.layers.normalization import LayerNorm, RMSNorm
from ntkengine.layers.plain import Aggregate, Identity
from ntkengine.layers.pooling import AvgPool, Flatten, GlobalAvgPool, GlobalSumPool, MaxPool, SumPool

AnyLayer = Annotated[
    Mask
    | Dense
    | Conv
    | ConvLocal
    | ConvTranspose
    | AvgPool
    | SumPool
    | MaxPool
    | GlobalAvgPool
    | GlobalSumPool
    | Flatten
    | Attention
    | LayerNorm
    | RMSNorm
    | Dropout
    | Aggregate
    | Identity
    | Parallel
    | Repeat
    | Serial
    | AnyActivation,
    Field(discriminator="kind"),
]
"""Every layer, told apart by `kind`."""

for container in (Parallel, Repeat, Serial):
    rebuild_dataclass(cast("Any", container), force=True, _types_namespace={"AnyLayer": AnyLayer})

__all__ = [
    "Aggregate",
    "AnyLayer",
    "Attention",
    "AvgPool",
    "Conv",
    "ConvLocal",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalSumPool",
    "Identity",
    "LayerNorm",
    "Mask",
    "MaxPool",
    "Parallel",
    "RMSNorm",
    "Repeat",
    "Serial",
    "SumPool",
]
