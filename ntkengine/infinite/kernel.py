"""The infinite-width kernels of a model, in blocks of pairs of inputs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ntkengine.gram import Entry, StoredGram, TilePlan, gram, gram_to_store, plan_tiles
from ntkengine.gram.compute import Block, Progress, ignore, never
from ntkengine.gram.identity import identity
from ntkengine.infinite.chain import Chain, Name
from ntkengine.infinite.fold import Fold, Probe
from ntkengine.infinite.scaling import WidthScaling, width_scaling
from ntkengine.layer import Site
from ntkengine.layers.windows import known_sizes
from ntkengine.model import Model
from ntkengine.positions import exchanged
from ntkengine.state import KernelState, Method

if TYPE_CHECKING:
    from torch import Tensor

Widths = Literal["limit", "as_given"]

MEMORY_BUDGET = 2 * 1024**3
WORKING_ARRAYS = 10  # of a number for each pair, that a rule holds at a time; measured
SMALL = 512 * 512  # moments; up to here, one block on all of torch's threads
SPATIAL = 4 * SMALL  # moments of a block of several positions a pair, where it is computed in strips
STEPS = 0.05  # of the budget, that the numbers of steps may take


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
    chain = work.chain(budget)
    plan = work.plan(budget, strips=chain is not None)
    block = work.at_once if chain is None and plan.count == 1 else work.blocks(chain)
    found = gram(block, work.entries(), plan)
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
    be read while it runs, from any process, with `StoredGram(directory)`. A directory is continued only with
    the same model, inputs and arguments. The P positions of spatial outputs stay on one axis, (n1, n2, P, P).

    Args:
        directory: of this kernel alone.
        key: what else tells it from others: the code of functions of your own, of which names are compared.
        progress: is told tiles done, their number, and seconds.
        cancelled: is asked between tiles.

    Other arguments and errors as in `infinite_kernel`; also `Cancelled`, a SpecError for a directory of
    something else, and ResourceError for a full disk.
    """
    work = Work.of(model, x1, x2, widths, get)
    plan = work.plan(budget, in_memory=False)
    named = re.sub(r" at 0x[0-9a-f]+", "", repr(model))  # a function's address is of this process alone
    return gram_to_store(
        work.blocks(work.chain(budget)),
        work.entries(),
        plan,
        directory,
        key=identity(f"{named} {widths} {key}", x1, *([] if x2 is None else [x2])),
        progress=progress,
        cancelled=cancelled,
    )


@dataclass
class Findings:
    """What is known of the rules, once they were probed, and the largest errors of any block so far."""

    probe: Probe | None = None
    largest: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Work:
    """A model's kernels on some inputs: everything but the blocks."""

    model: Model
    x1: Tensor
    x2: Tensor | None
    get: tuple[Name, ...]
    fold: Fold
    found: Findings = field(default_factory=Findings)

    @classmethod
    def of(cls, model: Model, x1: Tensor, x2: Tensor | None, widths: Widths, get: tuple[Name, ...]) -> Work:
        """Place the model."""
        in_shape = tuple(x1.shape[1:])
        site = model.place(in_shape) if widths == "limit" else model.check_finite(in_shape)
        return cls(model, x1, x2, get, Fold(site, symbolic=widths == "limit"))

    @property
    def probe(self) -> Probe:
        """What is known of the rules."""
        if self.found.probe is None:
            self.found.probe = self.fold.probe(self.x1)
        return self.found.probe

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

    @property
    def moments(self) -> int:
        """How many moments of all pairs rules act on."""
        return len(self.x1) * len(self.x1 if self.x2 is None else self.x2) * self.fold.entries

    def plan(self, budget: int, *, in_memory: bool = True, strips: bool = False) -> TilePlan:
        """Blocks that fit the cache and the budget. Those made of strips are larger, and have all threads one
        after the other: threads of Python wait for each other between short operations."""
        import torch

        each, size = self.fold.entries, self.x1.element_size()
        small = self.moments <= SMALL
        one_by_one = strips or small
        rules = SMALL if small else min(SMALL, max(self.moments // 9, SMALL // 4))
        block = min(SMALL * each, SPATIAL) if strips else rules
        return plan_tiles(
            self.entries(),
            len(self.x1),
            None if self.x2 is None else len(self.x2),
            bytes_per_pair=WORKING_ARRAYS * each * size,
            bytes_per_row=math.prod(self.x1.shape[1:]) * size,
            budget=budget,
            in_memory=in_memory,
            cache=block * WORKING_ARRAYS * size,
            workers=1 if one_by_one else torch.get_num_threads(),
            threads=torch.get_num_threads() if one_by_one else 1,
        )

    def chain(self, budget: int) -> Chain | None:
        """The network as steps, which many pairs are worth, where it can be had."""
        if self.moments <= SMALL:
            return None
        chain = Chain.of(self.fold, self.x1, self.x2, STEPS * budget)
        self.found.probe = self.found.probe if chain is None else chain.probe
        return chain

    def blocks(self, chain: Chain | None) -> Block:
        """The kernels of some rows of x1 and some of x2."""
        if chain is not None:
            return lambda rows, columns: self._scaled(chain.block(rows, columns, self.get))
        others, probe = self.x1 if self.x2 is None else self.x2, self.probe

        def folded(rows: slice, columns: slice) -> dict[str, Tensor]:
            same = self.x2 is None and rows == columns
            state = self.fold.block(self.x1[rows], None if same else others[columns], probe)
            self.found.largest.append(float(np.maximum(state.nngp_error, state.ntk_error)))
            return self._kernels(state)

        return folded

    def at_once(self, _rows: slice, _columns: slice) -> dict[str, Tensor]:
        """The kernels of all rows of x1 and of x2, as the one block; it probes the rules by itself."""
        state, self.found.probe = self.fold.at_once(self.x1, self.x2)
        return self._kernels(state)

    def _kernels(self, state: KernelState) -> dict[str, Tensor]:
        """Of the network's outputs."""
        kernels = {"nngp": state.nngp.pair, "ntk": state.ntk.pair}
        return self._scaled({name: kernels[name] for name in self.get})

    def _scaled(self, kernels: Mapping[Name, Tensor]) -> dict[str, Tensor]:
        """Kernels of the network's outputs from those of its last layer."""
        scale = self.model.output_scale**2
        scales = {"nngp": scale if self.model.initial_function == "raw" else 0.0, "ntk": scale}
        return {
            name: kernel if scales[name] == 1 else kernel * scales[name] for name, kernel in kernels.items()
        }

    def answer(self, kernels: Mapping[Name, Tensor], plan: TilePlan) -> InfiniteKernel:
        """The kernels with what is known of them."""
        warnings = []
        if self.model.initial_function != "raw":
            warnings.append(f"a {self.model.initial_function} network starts at f = 0: its NNGP is zero")
        if not self._moves():
            warnings.append("the NTK is zero on every pair: no trained tensor moves the outputs at the start")
        end = self.probe.end
        scaling = width_scaling(self.site, end.nngp.power, end.ntk.power)
        return InfiniteKernel(
            kernels=kernels,
            scaling=scaling,
            method=end.method,
            entry_error=max([self.probe.error, *self.found.largest]),
            warnings=(*warnings, *scaling.reasons, *scaling.remarks),
            plan=plan,
        )

    def _moves(self) -> bool:
        """Whether the NTK of some input with itself is not 0."""
        seen = bool(self.probe.end.ntk.pair.any())  # of all pairs, or of some inputs with themselves
        return seen or bool(self.fold.probe(self.x1).end.ntk.pair.any())


def spatial(kernel: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A kernel (n1, n2, P, P) of outputs with axes (H, W), as (n1, n2, H, H, W, W)."""
    if not axes:
        return kernel
    count = len(axes)
    order = [2 + which + axis for axis in range(count) for which in (0, count)]
    return kernel.reshape(*kernel.shape[:2], *axes, *axes).permute(0, 1, *order).contiguous()
