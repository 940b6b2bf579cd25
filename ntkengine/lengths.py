"""Inputs of different lengths, padded to one shape. Torch-free until it computes.

Padding is at the end of each spatial axis, so that an input is known by its length on each. What remains of
it behind some layers is what those layers would have made of the input alone.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ntkengine.errors import SpecError, pointer_of

if TYPE_CHECKING:
    from torch import Tensor

Table = tuple[int, ...]


@dataclass(frozen=True)
class Lengths:
    """How many positions are left at some place of a network: `tables[axis][l]` of an input that had l of
    them, for l from 0 to the size of the axis, which all inputs are padded to; 0 where there is no output.

    `constant` is what padding holds in the inputs, in each channel.
    """

    constant: float
    tables: tuple[Table, ...]

    @classmethod
    def of_inputs(cls, constant: float, sizes: tuple[int, ...]) -> Lengths:
        """Those of inputs of any length up to these sizes."""
        return cls(constant, tuple(tuple(range(size + 1)) for size in sizes))

    def of(self, x: Tensor, path: str) -> Tensor:
        """The lengths (n, axes) of padded inputs (n, *axes, C).

        Raises:
            SpecError: an input is padded elsewhere than at the end, or is nothing but padding.
        """
        import torch

        constant = torch.as_tensor(self.constant, dtype=x.dtype, device=x.device)
        there = (x != constant).any(-1)
        on_axis = (there[..., None].movedim(axis, 1).flatten(2).any(2) for axis in range(1, there.ndim))
        lengths = torch.stack([each.sum(1) for each in on_axis], 1)
        sound = (self.present(lengths) == there).flatten(1).all(1)
        lengths = lengths * sound[:, None]
        with suppress(RuntimeError):  # inside of vmap nobody can look at numbers
            if bool((lengths < 1).any()):
                raise SpecError(
                    f"{path}: an input has padding elsewhere than at the end of its axes, or holds nothing "
                    "else",
                    pointer=pointer_of(path),
                    hint=f"fill up each input at the end with positions that hold {self.constant:g} in every "
                    "channel, and give each one position at least that does not",
                )
        return lengths

    def left(self, lengths: Tensor) -> Tensor:
        """How many positions are left here, (n, axes), of inputs of those lengths."""
        import torch

        tables = (torch.as_tensor(table, device=lengths.device) for table in self.tables)
        return torch.stack([table[lengths[:, axis]] for axis, table in enumerate(tables)], 1)

    def present(self, lengths: Tensor) -> Tensor:
        """Which positions are left here, (n, *axes)."""
        import torch

        left, axes = self.left(lengths), len(self.tables)
        result = torch.ones((len(left), *[1] * axes), dtype=torch.bool, device=lengths.device)
        for axis, table in enumerate(self.tables):
            places = torch.arange(table[-1], device=lengths.device).reshape(-1, *[1] * (axes - 1 - axis))
            result = result & (places < left[:, axis].reshape(-1, *[1] * axes))
        return result

    def factors(self, lengths: Tensor, like: Tensor) -> Tensor:
        """1 where a position is left and 0 where none is, (n, *axes); NaN where nothing of an input is left:
        a number must not come of it where nobody could look."""
        import torch

        sound = torch.where((self.left(lengths) > 0).all(1), 1.0, torch.nan).to(like)
        return self.present(lengths) * sound.reshape(-1, *[1] * len(self.tables))

    def cut(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Features (n, *axes, C) times `factors`, whatever they are at the positions that are not left."""
        import torch

        zeroed = torch.where(self.present(lengths)[..., None], x, 0.0)
        return zeroed * self.factors(lengths, x)[..., None]

    def check(self, lengths: Tensor, path: str) -> None:
        """Something is left of each input.

        Raises:
            SpecError: an input is shorter than what the layer there needs.
        """
        with suppress(RuntimeError):  # inside of vmap
            short = lengths[(self.left(lengths) < 1).any(1)].tolist()
            if short:
                raise SpecError(
                    f"{path}: an input of length {' x '.join(map(str, short[0]))} is too short for it",
                    pointer=pointer_of(path),
                    hint='use longer inputs, a smaller window, or "padding": "SAME"',
                )
