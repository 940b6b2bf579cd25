"""Where tiles go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ntkengine.blocks import empty
from ntkengine.gram.entry import Entry
from ntkengine.gram.plan import Tile, TilePlan

if TYPE_CHECKING:
    from torch import Tensor


class Target(ABC):
    """Keeps tiles. Different tiles may be filled and committed by several threads at a time."""

    @abstractmethod
    def missing(self) -> list[Tile]:
        """The tiles that are still to be computed, in order."""

    @abstractmethod
    def buffers(self, tile: Tile) -> dict[str, Tensor]:
        """Arrays of the tile's shape (rows, columns, *entry.shape) to be filled, by name."""

    @abstractmethod
    def commit(self, tile: Tile, filled: Mapping[str, Tensor]) -> None:
        """Keep the buffers of a tile, and their mirror images."""


class Memory(Target):
    """Tensors in memory; buffers are views of them."""

    def __init__(self, plan: TilePlan, entries: Mapping[str, Entry]) -> None:
        import torch

        self.plan = plan
        self.entries = entries
        self.arrays = {
            name: empty(torch.empty(0, dtype=getattr(torch, entry.dtype)), plan.n1, plan.n2, *entry.shape)
            for name, entry in entries.items()
        }

    def missing(self) -> list[Tile]:
        return list(self.plan.tiles())

    def buffers(self, tile: Tile) -> dict[str, Tensor]:
        return {name: array[tile.rows, tile.columns] for name, array in self.arrays.items()}

    def commit(self, tile: Tile, filled: Mapping[str, Tensor]) -> None:
        if not self.plan.symmetric or self.plan.on_diagonal(tile):
            return
        for name, entry in self.entries.items():
            self.arrays[name][tile.columns, tile.rows] = entry.mirror(filled[name])
