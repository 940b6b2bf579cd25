"""The infinite-width kernels of a model: its rules folded over the state of the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ntkengine.infinite.scaling import WidthScaling, width_scaling
from ntkengine.model import Model
from ntkengine.state import Graded, KernelState

if TYPE_CHECKING:
    from torch import Tensor

Widths = Literal["limit", "as_given"]


@dataclass(frozen=True)
class InfiniteKernel:
    """`nngp` and `ntk` (n1, n2) of one output; different outputs are independent, so that the k x k
    block is `ntk I_k`. Each is the coefficient of its power of the width N, as `scaling` says."""

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
        x1: inputs (n1, d).
        x2: inputs (n2, d); None is x1 with itself, which is symmetric to the last bit.
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
    other = x1 if x2 is None else x2
    inputs = KernelState.from_inputs(x1, other, symmetric=x2 is None, symbolic=widths == "limit")
    state = site.layer.rule(site, inputs)
    if x2 is None:
        state = state.mirrored()
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
    error = max(state.nngp_error, state.ntk_error)
    return InfiniteKernel(nngp.pair, ntk.pair, scaling, method, error, everything)
