"""The infinite-width kernels of a model, in blocks of pairs of inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ntkengine.gram import Entry, StoredGram, TilePlan, gram, gram_to_store, plan_tiles
from ntkengine.gram.compute import Block, Progress, ignore, never
from ntkengine.infinite.chain import Chain
from ntkengine.infinite.fold import Fold, Probe
from ntkengine.infinite.scaling import WidthScaling, width_scaling
from ntkengine.layer import Site
from ntkengine.layers.windows import known_sizes
from ntkengine.model import Model
from ntkengine.positions import Extent, exchanged
from ntkengine.state import Method

if TYPE_CHECKING:
    from torch import Tensor

Widths = Literal["limit", "as_given"]
Name = Literal["nngp", "ntk"]

MEMORY_BUDGET = 2 * 1024**3
WORKING_ARRAYS = 10  # of a number for each pair, that a rule holds at a time; measured
SMALL = 512 * 512  # pairs; up to here, one block on all of torch's threads


@dataclass(frozen=True)
class InfiniteKernel:
    """`nngp` and `ntk` (n1, n2) of one output; different outputs are independent, so that the k x k
    block is `ntk I_k`. Each is the coefficient of its power of the width N, as `scaling` says.
    A network that ends with spatial axes (H, W) has (n1, n2, H, H, W, W)."""

    kernels: Mapping[Name, Tensor]  # those that were asked for
    scaling: WidthScaling
    method: Method
    entry_error: float  # bounds the error of any entry beyond rounding, relative to the largest entry
    warnings: tuple[str, ...]
    plan: TilePlan

    @property
    def nngp(self) -> Tensor:
        """The covariance of the outputs over initialisations."""
        return self.kernels["nngp"]

    @property
    def ntk(self) -> Tensor:
        """The neural tangent kernel."""
        return self.kernels["ntk"]


def infinite_kernel(
    model: Model,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    get: tuple[Name, ...] = ("nngp", "ntk"),
    widths: Widths = "limit",
    budget: int = MEMORY_BUDGET,
) -> InfiniteKernel:
    """NNGP and NTK of a model as its hidden widths go to infinity together.

    Args:
        x1: inputs (n1, d), or with spatial axes (n1, H, W, C).
        x2: inputs (n2, ...); None is x1 with itself, which is symmetric to the last bit.
        get: which kernels are kept.
        widths: `limit`; or `as_given`: the same recursion with the widths as numbers, which is what
            neural-tangents returns for the standard parameterization.
        budget: bytes that may be held, the result included.

    Raises:
        UnsupportedError: a layer has no rule; the message names its path.
        SpecError: `as_given` with a width left out.
        ResourceError: the budget is too small.

    Source: Jacot et al. (2018), Lee et al. (2018), with the parameterization as exponents.

    >>> import torch
    >>> from ntkengine import Dense, Model, Quadratic, Uniform
    >>> uniform, half = Uniform(half_width=1.0), Uniform(half_width=0.5)
    >>> hidden = Dense(W_law=uniform, b_std=1.0, b_law=half)
    >>> model = Model(layers=(hidden, Quadratic(), Dense(width=1, W_law=uniform)))
    >>> x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    >>> (720 * infinite_kernel(model, x).ntk).round().tolist()
    [[1073.0, 113.0], [113.0, 1073.0]]
    """
    work = Work.of(model, x1, x2, widths, get)
    plan = work.plan(budget)
    found = gram(work.blocks(plan), work.entries(), plan)
    return work.answer({name: spatial(found[name], work.axes) for name in get}, plan)


def infinite_gram(
    model: Model,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    directory: Path,
    get: tuple[Name, ...] = ("nngp", "ntk"),
    widths: Widths = "limit",
    budget: int = MEMORY_BUDGET,
    key: str = "",
    progress: Progress = ignore,
    cancelled: Callable[[], bool] = never,
) -> StoredGram:
    """The same kernels in a chunked store on disk, for matrices larger than memory.

    A call that finds part of them there computes the rest, with the same result to the last bit. Slices can
    be read while it runs, from any process, with `StoredGram(directory)`. The P positions of spatial outputs
    stay on one axis, (n1, n2, P, P).

    Args:
        directory: of this kernel alone.
        key: what tells this model and data from others, so that no kernel is continued as another one.
        progress: is told tiles done, their number, and seconds.
        cancelled: is asked between tiles.

    Other arguments and errors as in `infinite_kernel`; also `Cancelled`, and ResourceError for a full disk.
    """
    work = Work.of(model, x1, x2, widths, get)
    plan = work.plan(budget, in_memory=False)
    return gram_to_store(
        work.blocks(plan), work.entries(), plan, directory, key=key, progress=progress, cancelled=cancelled
    )


@dataclass
class Errors:
    """The largest errors of any block so far."""

    largest: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Work:
    """A model's kernels on some inputs: everything but the blocks."""

    model: Model
    x1: Tensor
    x2: Tensor | None
    get: tuple[Name, ...]
    fold: Fold
    probe: Probe
    errors: Errors = field(default_factory=Errors)

    @classmethod
    def of(cls, model: Model, x1: Tensor, x2: Tensor | None, widths: Widths, get: tuple[Name, ...]) -> Work:
        """Place the model and probe its rules."""
        in_shape = tuple(x1.shape[1:])
        site = model.place(in_shape) if widths == "limit" else model.check_finite(in_shape)
        fold = Fold(site, symbolic=widths == "limit")
        return cls(model, x1, x2, get, fold, fold.probe(x1))

    @property
    def site(self) -> Site:
        return self.fold.site

    @property
    def axes(self) -> tuple[int, ...]:
        """The spatial axes of the outputs."""
        return known_sizes(self.site.out_shape)

    def entries(self) -> dict[str, Entry]:
        """What is kept of a pair of inputs."""
        positions = (math.prod(self.axes),) * 2 if self.axes else ()
        dtype: Literal["float32", "float64"] = "float32" if self.x1.element_size() == 4 else "float64"
        return {name: Entry(positions, dtype, exchanged) for name in self.get}

    def plan(self, budget: int, *, in_memory: bool = True) -> TilePlan:
        """Blocks that fit the cache and the budget."""
        import torch

        positions = max(math.prod(known_sizes(leaf.in_shape)) for leaf in self.site.leaves())
        full = self.fold.needs().between == Extent.FULL
        numbers = positions**2 if full else positions
        n1, n2 = len(self.x1), None if self.x2 is None else len(self.x2)
        pairs = n1 * (n2 or n1) * numbers
        small = pairs <= SMALL
        block = min(SMALL, max(pairs // 9, SMALL // 4))  # enough of them to share
        return plan_tiles(
            self.entries(),
            n1,
            n2,
            bytes_per_pair=WORKING_ARRAYS * numbers * self.x1.element_size(),
            bytes_per_row=math.prod(self.x1.shape[1:]) * self.x1.element_size(),
            budget=budget,
            in_memory=in_memory,
            cache=block * WORKING_ARRAYS * self.x1.element_size(),
            workers=1 if small else torch.get_num_threads(),
            threads=torch.get_num_threads() if small else 1,
        )

    def blocks(self, plan: TilePlan) -> Block:
        """The kernels of some rows of x1 and some of x2; those of many blocks are worth some preparation."""
        chain = None
        if math.prod(plan.block) < plan.n1 * plan.n2:
            chain = Chain.of(self.fold, self.x1, self.x2, self.probe.nearness)
        return self._folded if chain is None else lambda *block: self._kept(*chain.block(*block))

    def _folded(self, rows: slice, columns: slice) -> dict[str, Tensor]:
        """By all rules, one after the other."""
        others = self.x1 if self.x2 is None else self.x2
        same = self.x2 is None and rows == columns
        state = self.fold.block(self.x1[rows], None if same else others[columns], self.probe)
        self.errors.largest.append(max(state.nngp_error, state.ntk_error))
        return self._kept(state.nngp.pair, state.ntk.pair)

    def _kept(self, nngp: Tensor, ntk: Tensor) -> dict[str, Tensor]:
        """What was asked for, of the network's outputs."""
        scale = self.model.output_scale**2
        scales = {"nngp": scale if self.model.initial_function == "raw" else 0.0, "ntk": scale}
        kernels = {"nngp": nngp, "ntk": ntk}
        return {
            name: kernels[name] if scales[name] == 1 else kernels[name] * scales[name] for name in self.get
        }

    def answer(self, kernels: Mapping[Name, Tensor], plan: TilePlan) -> InfiniteKernel:
        """The kernels with what is known of them."""
        warnings = []
        if self.model.initial_function != "raw":
            warnings.append(f"a {self.model.initial_function} network starts at f = 0: its NNGP is zero")
        if not bool(self.probe.end.ntk.pair.any()):
            warnings.append("the NTK is zero on every pair: no trained tensor moves the outputs at the start")
        end = self.probe.end
        scaling = width_scaling(self.site, end.nngp.power, end.ntk.power)
        return InfiniteKernel(
            kernels=kernels,
            scaling=scaling,
            method=end.method,
            entry_error=max(self.probe.nngp_error, self.probe.ntk_error, *self.errors.largest),
            warnings=(*warnings, *scaling.reasons, *scaling.remarks),
            plan=plan,
        )


def spatial(kernel: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A kernel (n1, n2, P, P) of outputs with axes (H, W), as (n1, n2, H, H, W, W)."""
    if not axes:
        return kernel
    count = len(axes)
    order = [2 + which + axis for axis in range(count) for which in (0, count)]
    return kernel.reshape(*kernel.shape[:2], *axes, *axes).permute(0, 1, *order).contiguous()
