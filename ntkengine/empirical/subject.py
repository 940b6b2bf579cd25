"""A network as empirical implementations see it: any torch module, its trained tensors and known forms."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ntkengine.blocks import Contraction, Derivatives, Gradients, Sums, keep_freed_memory
from ntkengine.empirical.forms import Form, LayerShare, Recorder
from ntkengine.empirical.implementation import LayerWork, Work, layers_of
from ntkengine.empirical.kinds import form_of
from ntkengine.errors import SpecError, UnsupportedError
from ntkengine.gram.plan import cuts
from ntkengine.network import Network
from ntkengine.outputs import OUTPUT_FORMS

# What has no rule is repeated for each output, and as exact.
warnings.filterwarnings("ignore", "There is a performance drop because we have not yet implemented")

Inputs = Any  # a tensor (n, ...), or a tuple, list or dict of such, as the module takes them
Call = tuple[Tensor, Tensor]  # what a module was called with, and what it returned
TRIAL_ROWS = 2
AGREEMENT = {8: 1e-7, 4: 1e-3}  # of a trial, relative, by the bytes of a number


@dataclass(frozen=True)
class Subject:
    """A module, the trained tensors whose kernel is wanted, by name, and parts with a known form, by path.

    Tied tensors are there once. The module is called as it is: its mode, buffers and gradients stay.
    """

    module: nn.Module
    tensors: Mapping[str, nn.Parameter]
    forms: Mapping[str, tuple[nn.Module, Form]]
    layers: tuple[LayerWork, ...]
    outputs: int
    batched: bool = True  # backward passes of several outputs can go as one

    @classmethod
    def of(cls, module: nn.Module, x: Inputs, parameters: Sequence[str] | None = None) -> Subject:
        """Look at a module, and try it on two rows of x.

        Args:
            parameters: names of tensors, or of layers that hold them; all that require gradients by default.

        Raises:
            UnsupportedError: the module draws anew, or mixes its rows, as dropout and batch norm in training.
            SpecError: no trained tensor has such a name.
        """
        check_deterministic(module)
        keep_freed_memory()
        tensors = chosen(module, parameters)
        forms = {
            path: (part, form)
            for path, part in module.named_modules()
            if (form := form_of(part)) is not None and all(name in tensors for name in full_names(path, part))
        }
        bare = cls(module, tensors, forms, (), 0)
        if type(module) is Network and parameters is None:  # which knows all of this
            shape = [size or 0 for size in module.site.out_shape]
            return replace(bare, layers=layers_of(module.site), outputs=math.prod(shape))
        first = rows_of(x, slice(0, TRIAL_ROWS))
        with torch.enable_grad():
            alone = bare(rows_of(first, slice(0, 1)))
        return replace(bare, outputs=alone.shape[1]).tried(first, alone)

    def __call__(self, x: Inputs) -> Tensor:
        """Outputs (n, k); further axes of the module's outputs are part of k."""
        return flat(call(self.module, x))

    def without_form(self) -> dict[str, nn.Parameter]:
        """The tensors whose Jacobians are needed."""
        known = {name for path, (part, _) in self.forms.items() for name in full_names(path, part)}
        return {name: p for name, p in self.tensors.items() if name not in known}

    def derivatives(self, x: Inputs, work: Work, rows: int, outputs: int) -> dict[str, LayerShare]:
        """What contraction needs of tensors with a known form, by path, for a kernel of those shapes in all:
        gradients, or what they read and the derivatives of what they give. Found for so many rows and
        outputs at a time."""
        found: dict[str, LayerShare] = {}
        for each in self.passes(x, rows, outputs):
            if each.path not in found:
                found[each.path] = each.room(work, length(x), work.k)
            found[each.path].write(each.rows, each.outputs, each.read, each.given)
        return found

    def passes(self, x: Inputs, rows: int, outputs: int) -> Iterator[Passed]:
        """What passes backward, of so many rows and outputs each, give for each module with a known form."""
        for part in cuts(0, length(x), rows):
            calls, y = self.recorded(rows_of(x, part))
            read = {path: self.read(path, each) for path, each in calls.items()}
            units = torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
            for columns in cuts(0, y.shape[1], outputs):
                v = units[columns, None].expand(-1, *y.shape)
                by_call = self.by_call(calls, y, v, batched=outputs > 1)
                while by_call:  # a layer's are dropped before the next one's are copied
                    path, gs = by_call.popitem()
                    sums = self.sums(path, calls[path], read[path])
                    yield Passed(path, sums, part, columns, read[path], self.given(path, gs))

    def sums(self, path: str, calls: list[Call], read: Tensor) -> Sums:
        """What the tensors of a module do at all positions of its calls."""
        module, form = self.forms[path]
        return replace(form.sums(module, *calls[0]), positions=read.shape[1])

    def read(self, path: str, calls: list[Call]) -> Tensor:
        """What a module reads; calls of one that is called several times are further positions."""
        module, form = self.forms[path]
        return joined([form.read(module, h) for h, _ in calls])

    def given(self, path: str, gs: list[Tensor]) -> Tensor:
        """Derivatives by what a module gives, (n, k, positions, width), from those of its calls."""
        module, form = self.forms[path]
        parts = [form.given(module, g.flatten(0, 1)) for g in gs]
        k, n = gs[0].shape[:2]
        return joined([part.reshape(k, n, *part.shape[1:]).transpose(0, 1) for part in parts])

    def recorded(self, x: Inputs) -> tuple[dict[str, list[Call]], Tensor]:
        """Input and output of every call of a module with a known form, by path; and the outputs (n, k)."""
        calls: dict[str, list[Call]] = {}

        def recorder(path: str) -> Recorder:
            def record(h: Tensor, output: Tensor) -> Tensor:
                calls.setdefault(path, []).append((h.detach().clone(), output))
                return output.clone()  # what comes next may write into it

            return record

        ends = [form.watched(part, recorder(path)) for path, (part, form) in self.forms.items()]
        try:
            with torch.enable_grad():
                y = self(x)
        finally:
            for end in ends:
                end()
        return calls, y

    def by_call(
        self, calls: Mapping[str, list[Call]], y: Tensor, v: Tensor, *, batched: bool
    ) -> dict[str, list[Tensor]]:
        """Derivatives of `sum_ib v[a, i, b] y[i, b]` by the output of every call, by path, (a, *output): of
        all a in one pass, batched, or else of a single one."""
        outs = [out for each in calls.values() for _, out in each]
        if not outs:
            return {}

        def derivatives(of: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(y, outs, of, retain_graph=True, materialize_grads=True)

        found = vmap(derivatives)(v) if batched else [g[None] for g in derivatives(v[0])]
        gs = iter(found)
        return {path: [next(gs) for _ in each] for path, each in calls.items()}

    def jacobians(self, x: Inputs, tensors: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """Jacobians `df_a / dp` of some tensors by name, (n, k, p)."""
        from ntkengine.empirical.jacobian import Jacobian  # which stands on this module

        return Jacobian(self.module, tensors).row_gradients(x) if tensors else {}

    def tried(self, x: Inputs, alone: Tensor) -> Subject:
        """The subject with those forms alone that agree with autograd: a tensor may be used where no form
        sees it.

        For the gradient of a random combination of the first row's outputs, a form's kernel of both rows has
        to be its square in the first place, and zero in others: no row knows of another.

        Args:
            alone: outputs of the first row without others.
        """
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(alone.shape, generator=generator, dtype=torch.float64).to(alone)
        squares = self._gradient_squares(alone, v)
        calls, y = self.recorded(x)
        gs, batched = self._tried_pass(calls, y, torch.cat([v, y.new_zeros(len(y) - 1, y.shape[1])]))
        shares: dict[str, tuple[Tensor, Sums]] = {}
        for path in self.forms.keys() & calls.keys():
            if all(len(h) == len(out) == len(y) for h, out in calls[path]):  # rows may be on another axis
                shares[path] = self._share(path, calls[path], gs[path])
        agreeing = self._agreeing({path: share for path, (share, _) in shares.items()}, squares)
        kept = {path: form for path, form in self.forms.items() if path in agreeing}
        layers = {
            path: LayerWork(path, sum(p.numel() for _, p in trained(module)), shares[path][1])
            for path, (module, _) in kept.items()
        }
        if len(kept) < len(self.forms):  # what another form makes be called is not called without it
            reached = replace(self, forms=kept).recorded(x)[0]
            kept = {path: each for path, each in kept.items() if path in reached}
            layers = {path: layers[path] for path in kept}
        subject = replace(self, forms=kept)
        for name, p in subject.without_form().items():
            path = name.rpartition(".")[0]
            layers[path] = LayerWork(path, p.numel() + (layers[path].numbers if path in layers else 0), None)
        return replace(subject, layers=tuple(layers.values()), batched=batched)

    def _tried_pass(
        self, calls: dict[str, list[Call]], y: Tensor, v: Tensor
    ) -> tuple[dict[str, list[Tensor]], bool]:
        """Derivatives of one combination of outputs, and whether passes of several can go as one."""
        try:
            return self.by_call(calls, y, v[None], batched=True), True
        except RuntimeError:  # what vmap cannot map
            return self.by_call(calls, y, v[None], batched=False), False

    def _share(self, path: str, calls: list[Call], gs: list[Tensor]) -> tuple[Tensor, Sums]:
        """The kernel of one module's tensors that its form gives, and what they do."""
        module, form = self.forms[path]
        read, given = self.read(path, calls), self.given(path, gs)
        sums = self.sums(path, calls, read)
        work = Work(len(read), len(read), 1, read.itemsize, OUTPUT_FORMS["trace"])
        side = Passed(path, sums, slice(len(read)), slice(1), read, given).share(work)
        ones = {name: 1.0 for name, _ in trained(module)}
        return form.block(module, side, side, Contraction("a", "a", ""), ones), sums

    def _gradient_squares(self, y: Tensor, v: Tensor) -> dict[str, float]:
        """Squared lengths of the gradients of `sum_ia v[i, a] y[i, a]`, by name."""
        found = torch.autograd.grad(y, list(self.tensors.values()), v, materialize_grads=True)
        lengths = torch.stack([torch.linalg.vector_norm(g) for g in found])
        return dict(zip(self.tensors, lengths.square().tolist(), strict=True))

    def _agreeing(self, shares: Mapping[str, Tensor], squares: Mapping[str, float]) -> set[str]:
        """The forms whose kernel of a row is the square of its gradient, and zero for others."""
        if not shares:
            return set()
        got = torch.stack(list(shares.values()))
        want = torch.zeros_like(got)
        own = [sum(squares[name] for name in full_names(path, self.forms[path][0])) for path in shares]
        want[:, 0, 0] = got.new_tensor(own)
        off = (got - want).abs().amax((1, 2))
        agree = (off <= AGREEMENT[got.element_size()] * want[:, 0, 0]).tolist()
        return {path for path, well in zip(shares, agree, strict=True) if well}


def joined(parts: list[Tensor]) -> Tensor:
    """Positions of several calls (..., positions, numbers) as those of one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)


@dataclass(frozen=True)
class Passed:
    """Of one module, what a pass backward of some rows and outputs gives: read (n, positions, fan_in), given
    (n, k, positions, width)."""

    path: str
    sums: Sums
    rows: slice
    outputs: slice
    read: Tensor
    given: Tensor

    def room(self, work: Work, n: int, k: int) -> LayerShare:
        """For what is wanted of the module, of n inputs and k outputs in all."""
        if LayerWork(self.path, 0, self.sums).keeps_gradients(work):
            return Gradients.room(n, k, self.read, self.given, self.sums.groups)
        return Derivatives.room(n, k, self.read, self.given)

    def share(self, work: Work) -> LayerShare:
        """What is wanted of these rows and outputs alone."""
        if not LayerWork(self.path, 0, self.sums).keeps_gradients(work):
            return Derivatives(self.read, self.given.transpose(1, 2))  # nothing is copied
        n, k = self.given.shape[:2]
        share = self.room(work, n, k)
        share.write(slice(n), slice(k), self.read, self.given)
        return share


def trained(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The module's own tensors that require gradients."""
    return [(name, p) for name, p in module.named_parameters(recurse=False) if p.requires_grad]


def full_names(path: str, module: nn.Module) -> list[str]:
    """Names of the module's own trained tensors in the network."""
    return [f"{path}.{name}".lstrip(".") for name, _ in trained(module)]


def chosen(module: nn.Module, parameters: Iterable[str] | None) -> dict[str, nn.Parameter]:
    """The trained tensors of those names, or in layers of those names."""
    every = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not every:
        raise SpecError("no tensor requires gradients, so there is no kernel", hint="unfreeze some")
    if parameters is None:
        return every
    wanted = list(parameters)
    found = {n: p for n, p in every.items() if any(n == each or n.startswith(f"{each}.") for each in wanted)}
    unknown = [each for each in wanted if not any(n == each or n.startswith(f"{each}.") for n in every)]
    if unknown:
        raise SpecError(
            f"no trained tensor or layer is called {', '.join(unknown)}", hint=f"there are {', '.join(every)}"
        )
    return found


def check_deterministic(module: nn.Module) -> None:
    """Refuse a module whose rows depend on each other, or on chance."""
    for path, part in module.named_modules():
        random = isinstance(part, _DropoutNd) and part.training and part.p > 0
        if random or (isinstance(part, _BatchNorm) and part.training):
            raise UnsupportedError(
                f"{path} ({type(part).__name__}) is in training mode, in which outputs depend on chance or "
                "on other rows",
                hint="call eval() on the module first",
            )


def call(module: Callable[..., Any], x: Inputs) -> Any:
    """The module on inputs as it takes them."""
    if isinstance(x, dict):
        return module(**x)
    return module(*x) if isinstance(x, (tuple, list)) else module(x)


def call_functional(module: nn.Module, params: Mapping[str, Tensor], x: Inputs) -> Any:
    """The same with other values of some tensors."""
    args = x if isinstance(x, (tuple, list)) else () if isinstance(x, dict) else (x,)
    return functional_call(module, dict(params), tuple(args), x if isinstance(x, dict) else {})


def flat(y: Any) -> Tensor:
    """Outputs (n, ...) as (n, k)."""
    if not isinstance(y, Tensor):
        raise UnsupportedError(
            f"the module returns {type(y).__name__}, not a tensor",
            hint="wrap it in a module whose forward returns the tensor whose kernel is wanted",
        )
    return y.reshape(len(y), -1)


def mapped(x: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """The inputs with a function applied to every tensor."""
    if isinstance(x, dict):
        return {name: function(part) for name, part in x.items()}
    return type(x)(map(function, x)) if isinstance(x, (tuple, list)) else function(x)


def rows_of(x: Inputs, rows: slice) -> Inputs:
    """Some rows of the inputs."""
    return mapped(x, lambda part: part[rows])


def first_tensor(x: Inputs) -> Tensor:
    """One of the input's tensors."""
    parts = list(x.values()) if isinstance(x, dict) else list(x) if isinstance(x, (tuple, list)) else [x]
    found: Tensor = parts[0]
    return found


def length(x: Inputs) -> int:
    """The number of rows."""
    return len(first_tensor(x))
