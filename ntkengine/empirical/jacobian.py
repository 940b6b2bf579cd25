"""The Jacobian of a module's outputs by its trained tensors: products with it, and its rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntkengine.empirical.subject import (
    AGREEMENT,
    Inputs,
    call_functional,
    check_deterministic,
    chosen,
    flat,
    length,
    mapped,
    rows_of,
)
from ntkengine.errors import ResourceError, SpecError
from ntkengine.gram.plan import cuts

HELD = 4  # over what a forward pass keeps: tangents or gradients beside values, and their graph

with warnings.catch_warnings():  # the first dual number loads parts of torch that use what torch deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    with forward_ad.dual_level():
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Jacobian:
    """`J[i, a, p] = df_a(x_i)/dp` over the numbers p of some trained tensors, never formed.

    The module is called in its present mode with copies of its buffers: nothing of it changes.
    """

    module: nn.Module
    tensors: Mapping[str, nn.Parameter]

    @classmethod
    def of(cls, module: nn.Module, parameters: Sequence[str] | None = None) -> Jacobian:
        """By the trained tensors of those names, or in layers of those names; tied ones are there once.

        Raises:
            UnsupportedError: dropout or batch norm is in training mode.
            SpecError: no trained tensor has such a name.
        """
        check_deterministic(module)
        return cls(module, chosen(module, parameters))

    @property
    def numbers(self) -> int:
        """How many numbers the tensors have."""
        return sum(p.numel() for p in self.tensors.values())

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensors."""
        return next(iter(self.tensors.values())).dtype

    def outputs(self, params: Mapping[str, Tensor], x: Inputs) -> Tensor:
        """Outputs (n, k) for other values of the tensors."""
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has neither a forward nor a second derivative
            return flat(call_functional(self.module, buffers | dict(params), x))

    def width(self, x: Inputs) -> int:
        """The number of outputs k."""
        with torch.no_grad():
            return self.outputs({}, rows_of(x, slice(0, 1))).shape[1]

    def leaves(self) -> dict[str, Tensor]:
        """The tensors as variables of their own, so that no hook of the module's sees a gradient."""
        return {name: p.detach().requires_grad_() for name, p in self.tensors.items()}

    def pull(self, x: Inputs, v: Tensor, rows: int) -> dict[str, Tensor]:
        """`(J^T v)[p] = sum_{i, a} v[i, a] J[i, a, p]` by name, for v (n, k), `rows` inputs at a time."""
        total = {name: torch.zeros_like(p) for name, p in self.tensors.items()}
        if len(v) != length(x):
            raise SpecError(f"v has {len(v)} rows, there are {length(x)} inputs")
        for part in cuts(0, length(x), rows):
            leaves = self.leaves()
            with torch.enable_grad():
                y = self.outputs(leaves, rows_of(x, part))
            weights = v[part].to(y)
            if weights.shape != y.shape:
                raise SpecError(f"v has shape {tuple(v.shape)}, it needs {(length(x), y.shape[1])}")
            found = torch.autograd.grad(y, list(leaves.values()), weights, materialize_grads=True)
            for name, gradient in zip(leaves, found, strict=True):
                total[name] += gradient
        return total

    def push(self, x: Inputs, tangents: Mapping[str, Tensor], rows: int) -> Tensor:
        """`(J t)[i, a] = sum_p J[i, a, p] t[p]`, (n, k), for tangents by name, `rows` inputs at a time."""
        return torch.cat([self._push(rows_of(x, part), tangents) for part in cuts(0, length(x), rows)])

    def _push(self, x: Inputs, tangents: Mapping[str, Tensor]) -> Tensor:
        """In the first way for which the module's operations have the derivatives."""
        for way in (self._forward, self._twice):
            with suppress(RuntimeError):
                return way(x, tangents)
        return self._by_rows(x, tangents)

    def _forward(self, x: Inputs, tangents: Mapping[str, Tensor]) -> Tensor:
        """Forward mode."""
        with torch.no_grad(), forward_ad.dual_level():
            duals = {n: dual(p.detach(), tangents[n]) for n, p in self.tensors.items()}
            y, found = parts_of(self.outputs(duals, x))
            return torch.zeros_like(y) if found is None else found

    def _twice(self, x: Inputs, tangents: Mapping[str, Tensor]) -> Tensor:
        """`J t` is the derivative of `<J^T u, t>` by u, linear in u, so that `<u, J t> = <J^T u, t>`: this is
        checked, for a backward pass that leaves the graph would lose its share without a word."""
        leaves = self.leaves()
        with torch.enable_grad():
            y = self.outputs(leaves, x)
            generator = torch.Generator().manual_seed(0)
            u = torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y).requires_grad_()
            gradients = torch.autograd.grad(
                y, list(leaves.values()), u, create_graph=True, materialize_grads=True
            )
            shares = [(g * tangents[name]).sum() for name, g in zip(leaves, gradients, strict=True)]
            total = torch.stack(shares).sum()
            (found,) = torch.autograd.grad(total, u)
        off = abs(float((u * found).sum().detach() - total.detach()))
        norms = [g.detach().norm() * tangents[name].norm() for name, g in zip(leaves, gradients, strict=True)]
        if off > AGREEMENT[y.element_size()] * float(torch.stack(norms).sum()):
            raise RuntimeError("the module's backward pass is not differentiable")
        return found

    def _by_rows(self, x: Inputs, tangents: Mapping[str, Tensor]) -> Tensor:
        """One gradient after the other."""
        values = []
        for i in range(length(x)):
            gradients = self.row_gradients(rows_of(x, slice(i, i + 1)))
            shares = [g @ tangents[name].flatten() for name, g in gradients.items()]
            values.append(torch.stack(shares).sum(0))
        return torch.cat(values)

    def row_gradients(self, x: Inputs, columns: slice = slice(None)) -> dict[str, Tensor]:
        """The rows of J for some outputs, by name (n, outputs, numbers of the tensor)."""
        try:
            return self._mapped_gradients(x, columns)
        except RuntimeError:  # what vmap cannot map, such as recurrent kernels
            return self._looped_gradients(x, columns)

    def _mapped_gradients(self, x: Inputs, columns: slice) -> dict[str, Tensor]:
        def outputs(params: dict[str, Tensor], row: Inputs) -> Tensor:
            return self.outputs(params, mapped(row, lambda part: part[None]))[0, columns]

        detached = {name: p.detach() for name, p in self.tensors.items()}
        with torch.no_grad():
            found = vmap(jacrev(outputs), in_dims=(None, 0))(detached, x)
        return {name: jacobian.flatten(2) for name, jacobian in found.items()}

    def _looped_gradients(self, x: Inputs, columns: slice) -> dict[str, Tensor]:
        leaves = self.leaves()
        rows: list[list[Tensor]] = []
        for i in range(length(x)):
            with torch.enable_grad():
                values = self.outputs(leaves, rows_of(x, slice(i, i + 1)))[0, columns].unbind()
            gradients = [
                torch.autograd.grad(value, list(leaves.values()), retain_graph=True, materialize_grads=True)
                for value in values
            ]
            rows.append([torch.stack(each).flatten(1) for each in zip(*gradients, strict=True)])
        return {name: torch.stack(each) for name, each in zip(leaves, zip(*rows, strict=True), strict=True)}

    def bytes_per_row(self, x: Inputs) -> int:
        """What a product holds for an input: what a forward pass keeps of it, times `HELD`."""
        one = rows_of(x, slice(0, 1))
        two = mapped(one, lambda part: torch.cat([part, part]))
        more = self._kept(two) - self._kept(one)
        return HELD * max(more, self.width(x) * self.dtype.itemsize)

    def _kept(self, x: Inputs) -> int:
        """Bytes that a forward pass keeps for the backward pass."""
        kept: list[int] = []

        def note(tensor: Tensor) -> Tensor:
            kept.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            self.outputs(self.leaves(), x)
        return sum(kept)

    def rows_within(self, x: Inputs, budget: int) -> int:
        """How many inputs a product can take at a time.

        Raises:
            ResourceError: not one.
        """
        fixed = HELD * self.numbers * self.dtype.itemsize
        row = self.bytes_per_row(x)
        if fixed + row > budget:
            raise ResourceError(
                f"a product needs {fixed + row:,} bytes for one input, the budget is {budget:,}",
                estimate={"bytes": fixed + row},
                limit={"bytes": budget},
                hint="raise the budget",
            )
        return (budget - fixed) // row


def dual(primal: Tensor, tangent: Tensor) -> Tensor:
    """A tensor that carries its derivative in a direction."""
    found: Tensor = forward_ad.make_dual(primal, tangent)  # type: ignore[no-untyped-call]
    return found


def parts_of(y: Tensor) -> tuple[Tensor, Tensor | None]:
    """Value and derivative, which is None where y does not depend on a dual."""
    value, derivative = forward_ad.unpack_dual(y)  # type: ignore[no-untyped-call]
    return value, derivative
