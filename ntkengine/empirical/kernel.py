"""Empirical kernels of a finite network: one frame of tiles for every implementation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ntkengine.empirical.implementation import Work
from ntkengine.empirical.plan import IMPLEMENTATIONS, MEMORY_BUDGET, plan
from ntkengine.outputs import OUTPUT_FORMS, Outputs

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.network import Network


def empirical_ntk(
    network: Network,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    outputs: Outputs = "mean",
    implementation: str = "auto",
    with_rates: bool = False,
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """The NTK of a network at its present weights, `Theta[i, j, a, b] = sum_p df_a(x1_i)/dp df_b(x2_j)/dp`.

    Args:
        network: k outputs; its weights and gradients are left as they are.
        x1: inputs (n1, d).
        x2: inputs (n2, d); None is x1 with itself, whose kernel is made symmetric to the last bit.
        outputs: `full` (n1, n2, k, k); `trace` (n1, n2), the sum over a = b; `mean`, the trace over k;
            `diagonal` (n1, n2, k).
        implementation: a name from `IMPLEMENTATIONS`, or `auto`.
        with_rates: weight each tensor's share by its learning rate's factor N^-c: the kernel that the
            outputs follow in training.
        budget: bytes that derivatives may take at a time.

    Source: Jacot et al. (2018), equation 4; Novak et al. (2022) for the structured form.

    >>> import torch
    >>> from ntkengine import Dense, Model, Quadratic
    >>> weights = {"layers.0.W": [[1.0]], "layers.0.b": [0.5], "layers.2.W": [[2.0]]}
    >>> model = Model(layers=(Dense(width=1, b_std=1.0), Quadratic(), Dense(width=1)))
    >>> x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    >>> empirical_ntk(model.network((1,), weights=weights), x).tolist()
    [[77.0625, 0.5625], [0.5625, 8.0625]]
    """
    form = OUTPUT_FORMS[outputs]
    other = x1 if x2 is None else x2
    k = network.site.known_size(network.site.out_shape)
    work = Work(len(x1), len(other), k, x1.element_size(), form)
    chosen = plan(network.site, work, implementation=implementation, budget=budget)
    method = IMPLEMENTATIONS[chosen.implementation]
    weights = network.rates() if with_rates else dict.fromkeys(network.rates(), 1.0)
    result = x1.new_empty(form.shape(len(x1), len(other), k))
    for rows in chunks(len(x1), chosen.chunk):
        left = method.derivatives(network, x1[rows])
        for columns in chunks(len(other), chosen.chunk):
            if x2 is None and columns.start < rows.start:
                continue  # below the diagonal: mirrored
            same = x2 is None and columns.start == rows.start
            right = left if same else method.derivatives(network, other[columns])
            block = method.contract(network, left, right, form.contraction, weights)
            result[rows, columns] = (block + mirrored(block)) / 2 if same else block
            if x2 is None and not same:
                result[columns, rows] = mirrored(block)
    return result / k if form.divide else result


def empirical_nngp(
    network: Network, x1: Tensor, x2: Tensor | None = None, *, outputs: Outputs = "mean"
) -> Tensor:
    """The second moment of this network's outputs, `f_a(x1_i) f_b(x2_j)`, in the shapes of `outputs`.

    Its average over initialisations is the NNGP. Arguments as in `empirical_ntk`.
    """
    import torch

    form = OUTPUT_FORMS[outputs]
    with torch.no_grad():
        f1 = network(x1)[..., None]
        f2 = f1 if x2 is None else network(x2)[..., None]
    product = form.contraction.product(f1, f2)
    if x2 is None:
        product = (product + mirrored(product)) / 2
    return product / f1.shape[1] if form.divide else product


def chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `count` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def mirrored(block: Tensor) -> Tensor:
    """The block of the exchanged inputs: (j, i) for (i, j), and (b, a) for (a, b)."""
    swapped = block.transpose(0, 1)
    return swapped.transpose(2, 3) if block.ndim == 4 else swapped
