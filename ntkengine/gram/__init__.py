"""Gram matrices in tiles: under a byte budget, to memory or to disk, resumed after a kill."""

from ntkengine.gram.compute import gram, gram_to_store
from ntkengine.gram.entry import Entry, mirrored
from ntkengine.gram.plan import Tile, TilePlan, plan_tiles
from ntkengine.gram.store import HasWriterError, StoredGram

__all__ = [
    "Entry",
    "HasWriterError",
    "StoredGram",
    "Tile",
    "TilePlan",
    "gram",
    "gram_to_store",
    "mirrored",
    "plan_tiles",
]
