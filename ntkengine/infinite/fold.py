"""The infinite-width kernels of a model: its rules folded over the state of the inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ntkengine.graded import Graded
from ntkengine.infinite.scaling import WidthScaling, width_scaling
from ntkengine.layer import Site
from ntkengine.model import Model
from ntkengine.positions import Extent, Needs
from ntkengine.state import KernelState, epsilon

if TYPE_CHECKING:
    from torch import Tensor

Widths = Literal["limit", "as_given"]

PROBES = 64  # rows on which the error of coincident pairs is measured
PROBED_ENTRIES = 4_000_000  # at most, of all pairs of their positions
NEARNESS = {"torch.float64": 1e-4, "torch.float32": 1e-3}  # 1 - |cosine| of pairs that are computed apart
PLAIN_ROUNDING = 1e3  # in units of the dtype's rounding error; more than that comes from a kink


@dataclass(frozen=True)
class InfiniteKernel:
    """`nngp` and `ntk` (n1, n2) of one output; different outputs are independent, so that the k x k
    block is `ntk I_k`. Each is the coefficient of its power of the width N, as `scaling` says.
    A network that ends with spatial axes has (n1, n2, H, H, W, W)."""

    nngp: Tensor
    ntk: Tensor
    scaling: WidthScaling
    method: Literal["closed_form", "moments"]
    entry_error: float  # of entries of (nearly) coincident inputs, relative to the largest; others are exact
    warnings: tuple[str, ...]


def infinite_kernel(
    model: Model, x1: Tensor, x2: Tensor | None = None, *, widths: Widths = "limit"
) -> InfiniteKernel:
    """NNGP and NTK of a model as its hidden widths go to infinity together.

    Args:
        x1: inputs (n1, d), or with spatial axes (n1, H, W, C).
        x2: inputs (n2, ...); None is x1 with itself, which is symmetric to the last bit.
        widths: `limit`; or `as_given`: the same recursion with the widths as numbers, which is what
            neural-tangents returns for the standard parameterization.

    Raises:
        UnsupportedError: a layer has no rule; the message names its path.
        SpecError: `as_given` with a width left out.

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
    import torch

    in_shape = tuple(x1.shape[1:])
    site = model.place(in_shape) if widths == "limit" else model.check_finite(in_shape)
    fold = Fold(site, symbolic=widths == "limit")
    nearness, probe = fold.probe(x1)
    state = fold.block(x1, x2, nearness)
    nngp, ntk = state.nngp_pair().scaled(model.output_scale**2), state.ntk.scaled(model.output_scale**2)
    warnings = []
    if model.initial_function != "raw":
        nngp = Graded((torch.zeros_like(nngp.pair),))
        warnings.append(f"a {model.initial_function} network starts at f = 0: its NNGP is zero")
    if not bool(ntk.pair.any()):
        warnings.append("the NTK is zero on every pair: no trained tensor moves the outputs at the start")
    scaling = width_scaling(site, nngp.power, ntk.power)
    method: Literal["closed_form", "moments"] = "moments" if state.exact_moments else "closed_form"
    everything = (*warnings, *scaling.reasons, *scaling.remarks)
    error = max(*probe, state.nngp_error, state.ntk_error)
    axes = site.out_shape[:-1]
    return InfiniteKernel(
        spatial(nngp.pair, axes), spatial(ntk.pair, axes), scaling, method, error, everything
    )


@dataclass(frozen=True)
class Fold:
    """The rules of a placed network, one after the other."""

    site: Site
    symbolic: bool

    def start(self, x1: Tensor, x2: Tensor, *, symmetric: bool = False, paired: bool = False) -> KernelState:
        """The state of the inputs."""
        # the variances of paired rows are kept to the end, and with them the determinant
        needs = self.site.layer.needs(self.site, Needs(Extent.FULL, Extent(int(paired))))
        return KernelState.from_inputs(
            x1, x2, symmetric=symmetric, symbolic=self.symbolic, needs=needs, paired=paired
        )

    def run(self, state: KernelState) -> KernelState:
        """The state of the outputs."""
        return self.site.layer.rule(self.site, state)

    def probe(self, x1: Tensor) -> tuple[float, tuple[float, float]]:
        """How near a pair must be to be computed apart, and the errors, relative to the largest entry, that
        rounding leaves in the NNGP and in the NTK of pairs that are not."""
        positions = math.prod(x1.shape[1:-1])
        rows = x1[:: max(1, len(x1) // PROBES)][: max(1, PROBED_ENTRIES // positions**2)]
        start = replace(self.start(rows, rows, paired=True), probing=True)
        end = self.run(start)
        if end.det is None or max(end.nngp_error, end.ntk_error) < PLAIN_ROUNDING * epsilon(rows):
            return 0.0, (end.nngp_error, end.ntk_error)
        nearness = NEARNESS[str(rows.dtype)]
        end = self.run(replace(start, nearness=nearness))
        return nearness, (end.nngp_error, end.ntk_error)

    def block(self, x1: Tensor, x2: Tensor | None, nearness: float) -> KernelState:
        """The state of the outputs on all pairs of rows; near ones are computed apart, in float64."""
        other = x1 if x2 is None else x2
        state = self.run(replace(self.start(x1, other, symmetric=x2 is None), nearness=nearness))
        if state.near is not None and len(state.near.rows):
            rows, columns = state.near
            apart = self.run(self.start(x1[rows].double(), other[columns].double(), paired=True))
            state = state.with_near(apart)
        return state.mirrored() if x2 is None else state


def spatial(kernel: Tensor, axes: tuple[int | None, ...]) -> Tensor:
    """A kernel (n1, n2, P, P) of outputs with axes (H, W), as (n1, n2, H, H, W, W)."""
    if not axes:
        return kernel
    count = len(axes)
    known = [axis for axis in axes if axis is not None]
    order = [2 + which + axis for axis in range(count) for which in (0, count)]
    return kernel.reshape(*kernel.shape[:2], *known, *known).permute(0, 1, *order)
