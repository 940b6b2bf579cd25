"""Randomly projected gradients, whose inner products estimate the empirical NTK. Torch-free until called."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ntkengine.empirical.identity import digest_of
from ntkengine.empirical.plan import MEMORY_BUDGET
from ntkengine.errors import ResourceError, SpecError
from ntkengine.gram import Entry, StoredGram, TilePlan, gram, gram_to_store
from ntkengine.gram.compute import Progress, ignore, never
from ntkengine.gram.plan import CHUNK, COPIES, RESERVE, RETAINED, cuts, padded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ntkengine.empirical.jacobian import Jacobian
    from ntkengine.empirical.subject import Inputs

ROWS = 1024  # of the projection in a block: a part of its definition


def gradient_features(
    module: nn.Module,
    x: Inputs,
    dimension: int,
    *,
    seed: int,
    output: int | None = None,
    parameters: Sequence[str] | None = None,
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """Gradients by the trained tensors, projected to few numbers: `G[i, a, m] = sum_p df_a(x_i)/dp P[p, m]`.

    The entries of P are independent, +-1/sqrt(dimension) with equal chances, so that the expected value of
    `sum_m G[i, a, m] G[j, b, m]` over seeds is `Theta[i, j, a, b]`. With the gradients g and h of the pair
    its variance is `(|g|^2 |h|^2 + (g . h)^2 - 2 sum_p g_p^2 h_p^2) / dimension`. So its standard error,
    relative to `|g| |h| = sqrt(Theta[i, i, a, a] Theta[j, j, b, b])`, is at most
    `sqrt((1 + cosine^2) / dimension)`, which is `sqrt(2 / dimension)` on the diagonal, whatever the number of
    parameters. Errors of different pairs are not independent: one P serves all.

    P is never stored: its blocks come from a generator keyed by the seed and the number of the block, so that
    it is the same to the last bit for every batch, budget and process. The features depend on the budget
    within rounding.

    Args:
        module: any torch module, with outputs (n, k), further axes being part of k; frozen tensors do not
            count, tied ones count once. Its weights, gradients, buffers and mode are left as they are. For
            the gradients of a loss give one that maps `(x, labels)` to losses (n,) or (n, 1).
        x: inputs (n, ...); a tuple or dict of such for a module that takes several.
        dimension: numbers kept of a gradient.
        seed: of P, from 0 to 2^64 - 1.
        output: the one whose gradients are wanted; all by default.
        parameters: names of tensors, or of layers that hold them, whose gradients are wanted; all by default.
        budget: bytes that may be held, the result included.

    Returns:
        G (n, k, dimension), or (n, dimension) for one output, of the module's dtype.

    Raises:
        UnsupportedError: outputs depend on chance or on other rows (dropout, batch norm in training mode).
        ResourceError: the result, or the gradient of one output, does not fit the budget.
        SpecError: dimension, seed or output are out of range, or there is no tensor of such a name.

    Source: Johnson and Lindenstrauss (1984); Achlioptas (2003) for signs; Park et al., "TRAK" (2023),
    section 3.2, for gradients.

    >>> import torch
    >>> module = torch.nn.Linear(1, 1, dtype=torch.float64)  # Theta = x x' + 1
    >>> features = gradient_features(module, torch.tensor([[1.0], [3.0]]).double(), 1000, seed=0)[:, 0]
    >>> features.shape, (features @ features.T).round(decimals=1).tolist()
    (torch.Size([2, 1000]), [[2.0, 4.0], [4.0, 10.0]])
    """
    features = Features.of(module, x, dimension, seed, output, parameters)
    plan = features.plan(budget, in_memory=True)
    found = gram(features.block, features.entries, plan)["features"]
    return found if output is None else found[:, 0]


def gradient_features_to_store(
    module: nn.Module,
    x: Inputs,
    dimension: int,
    *,
    directory: Path,
    seed: int,
    output: int | None = None,
    parameters: Sequence[str] | None = None,
    budget: int = MEMORY_BUDGET,
    progress: Progress = ignore,
    cancelled: Callable[[], bool] = never,
) -> StoredGram:
    """The same on disk, for features larger than memory; the call goes on from what an earlier one left.

    The Zarr array `features` is (n, k, dimension), k = 1 for one output; its chunks are whole inputs, and
    count as done once they are durably on disk. A directory is continued only with the same module, weights,
    inputs and arguments, and then gives the same bits as a call that was not interrupted.

    Args:
        directory: for the store; made if need be.
        progress: called after each chunk with chunks done, of how many, seconds since this call began.
        cancelled: asked between chunks.

    The other arguments are those of `gradient_features`, with its errors.

    Raises:
        SpecError: the directory holds something else, or has a writer.
        Cancelled: as `cancelled` said.

    >>> import tempfile, torch
    >>> module, x = torch.nn.Linear(2, 3), torch.ones(5, 2)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     stored = gradient_features_to_store(module, x, 8, directory=Path(directory) / "trak", seed=0)
    ...     stored.array("features").shape, stored.fraction(), stored.rows("features", 2, 4).shape
    ((5, 3, 8), 1.0, (2, 3, 8))
    """
    features = Features.of(module, x, dimension, seed, output, parameters)
    plan = features.plan(budget, in_memory=False)
    return gram_to_store(
        features.block,
        features.entries,
        plan,
        directory,
        key=features.key(),
        progress=progress,
        cancelled=cancelled,
    )


@dataclass(frozen=True)
class Projection:
    """P (numbers, dimension): signs over sqrt(dimension), made where they are used."""

    seed: int
    dimension: int

    def signs(self, block: int, rows: int) -> Any:
        """The first rows of a block (rows, dimension), as bits: the sign is + where the bit is set."""
        generator = np.random.Philox(key=np.array([self.seed, block], dtype=np.uint64))
        words = generator.random_raw(-(-rows * self.dimension // 64)).astype("<u8")
        bits = np.unpackbits(words.view(np.uint8), count=rows * self.dimension, bitorder="little")
        return bits.reshape(rows, self.dimension)

    def apply(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """`sum_p g[..., p] P[p, m]` over tensors in their order, each in blocks of its own."""
        import torch

        first = next(iter(gradients.values()))
        total = first.new_zeros(*first.shape[:-1], self.dimension)
        for block, part in enumerate(parts(gradients)):
            signs = torch.from_numpy(self.signs(block, part.shape[-1])).to(part).mul_(2).sub_(1)
            total += part @ signs
        return total / math.sqrt(self.dimension)


def parts(gradients: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The numbers of each tensor, `ROWS` at a time."""
    for gradient in gradients.values():
        for cut in cuts(0, gradient.shape[-1], ROWS):
            yield gradient[..., cut]


@dataclass(frozen=True)
class Features:
    """The features of some inputs (rows) and outputs (columns)."""

    jacobian: Jacobian
    x: Inputs
    projection: Projection
    outputs: range

    @classmethod
    def of(
        cls,
        module: nn.Module,
        x: Inputs,
        dimension: int,
        seed: int,
        output: int | None,
        parameters: Sequence[str] | None,
    ) -> Features:
        """Check the arguments."""
        from ntkengine.empirical.jacobian import Jacobian

        if dimension < 1 or not 0 <= seed < 2**64:
            raise SpecError(
                f"dimension {dimension} or seed {seed} is out of range", hint="from 1; 0 to 2^64 - 1"
            )
        jacobian = Jacobian.of(module, parameters)
        k = jacobian.width(x)
        if output is not None and not 0 <= output < k:
            raise SpecError(f"there is no output {output}", hint=f"0 to {k - 1}")
        outputs = range(k) if output is None else range(output, output + 1)
        return cls(jacobian, x, Projection(seed, dimension), outputs)

    @property
    def entries(self) -> dict[str, Entry]:
        """What is kept of an input and an output."""
        dtype: Literal["float32", "float64"] = "float32" if self.jacobian.dtype.itemsize == 4 else "float64"
        return {"features": Entry((self.projection.dimension,), dtype)}

    def plan(self, budget: int, *, in_memory: bool) -> TilePlan:
        """How they will be computed, on all of torch's threads."""
        import torch

        from ntkengine.empirical.subject import length

        return feature_plan(
            self.entries["features"],
            length(self.x),
            len(self.outputs),
            numbers=self.jacobian.numbers,
            bytes_per_row=self.jacobian.bytes_per_row(self.x),
            budget=budget,
            in_memory=in_memory,
            threads=torch.get_num_threads(),
        )

    def block(self, rows: slice, columns: slice) -> dict[str, Tensor]:
        """Those of some inputs and some of the outputs."""
        from ntkengine.empirical.subject import rows_of

        chosen = self.outputs[columns]
        wanted = slice(chosen.start, chosen.stop)
        gradients = self.jacobian.row_gradients(rows_of(self.x, rows), wanted)
        return {"features": self.projection.apply(gradients)}

    def key(self) -> str:
        """SHA-256 of all that features depend on, but for the code of the module."""
        about = f"signs {ROWS} {self.projection} {self.outputs}"
        return digest_of(about, self.jacobian.module, self.jacobian.tensors, self.x)


def feature_plan(
    entry: Entry,
    n: int,
    k: int,
    *,
    numbers: int,
    bytes_per_row: int,
    budget: int,
    in_memory: bool,
    threads: int,
) -> TilePlan:
    """Blocks of as many inputs as fit, each with as many of its outputs: P is made once for a block.

    Raises:
        ResourceError: the gradient of one output does not fit.
    """
    itemsize = np.dtype(entry.dtype).itemsize
    # a gradient twice, as torch finds it and as a copy, its backward pass, and features as sum and product
    pair = 2 * numbers * itemsize + bytes_per_row + 3 * entry.bytes
    tile = n if in_memory else max(1, min(n, CHUNK // (k * entry.bytes)))
    kept = entry.bytes * k * (n if in_memory else COPIES * tile)
    signs = ROWS * entry.shape[0] * (itemsize + 2)
    fixed = RESERVE + kept + signs
    left = math.floor((budget - fixed) / RETAINED)
    if left < pair + bytes_per_row:
        needed = fixed + math.ceil(RETAINED * (pair + bytes_per_row))
        raise ResourceError(
            f"these features need at least {needed:,} bytes of memory, the budget is {budget:,}",
            estimate={"bytes": needed},
            limit={"bytes": budget},
            hint="raise the budget, write them to disk, or choose parameters or a smaller dimension",
        )
    columns = min(k, (left - bytes_per_row) // pair)
    rows = min(tile, left // (bytes_per_row + columns * pair))
    return TilePlan(
        n1=n,
        n2=k,
        symmetric=False,
        tile=(rows, columns) if in_memory else (tile, k),
        block=(rows, columns),
        workers=1,
        threads=threads,
        bytes=fixed + math.ceil(RETAINED * rows * (bytes_per_row + columns * pair)),
        disk_bytes=0 if in_memory else entry.bytes * padded(n, tile) * k,
    )
