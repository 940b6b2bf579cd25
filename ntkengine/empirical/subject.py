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
from ntkengine.empirical.implementation import LayerWork, Work, layer_of, layers_of, own_name
from ntkengine.empirical.kinds import forms_of
from ntkengine.errors import SpecError, UnsupportedError
from ntkengine.gram.plan import cuts
from ntkengine.network import Network
from ntkengine.outputs import OUTPUT_FORMS

# What has no rule is repeated for each output, and as exact.
warnings.filterwarnings("ignore", "There is a performance drop because we have not yet implemented")

Inputs = Any  # a tensor (n, ...), or a tuple, list or dict of such, as the module takes them
Names = tuple[str, ...]  # of the trained tensors of one form
Call = tuple[Tensor, Tensor]  # what the tensors of a form read, and what they gave
TRIAL_ROWS = 2
AGREEMENT = {8: 1e-7, 4: 1e-3}  # of a trial, relative, by the bytes of a number


@dataclass(frozen=True)
class Subject:
    """A module, the trained tensors whose kernel is wanted, by name, and those with a known form.

    Tied tensors are there once. The module is called as it is: its mode, buffers and gradients stay.
    """

    module: nn.Module
    tensors: Mapping[str, nn.Parameter]
    forms: Mapping[Names, tuple[nn.Module, Form]]  # and the part of the module that has these tensors
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
            names: (part, form)
            for path, part in module.named_modules()
            for form in forms_of(part)
            if tensors.keys() >= set(names := full_names(path, part, form))
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
        known = {name for names in self.forms for name in names}
        return {name: p for name, p in self.tensors.items() if name not in known}

    def derivatives(self, x: Inputs, work: Work, rows: int, outputs: int) -> dict[Names, LayerShare]:
        """What contraction needs of tensors with a known form, for a kernel of those shapes in all:
        gradients, or what they read and the derivatives of what they give. Found for so many rows and
        outputs at a time."""
        found: dict[Names, LayerShare] = {}
        for each in self.passes(x, rows, outputs):
            if each.names not in found:
                found[each.names] = each.room(work, length(x), work.k)
            found[each.names].write(each.rows, each.outputs, each.read, each.given)
        return found

    def passes(self, x: Inputs, rows: int, outputs: int) -> Iterator[Passed]:
        """What passes backward, of so many rows and outputs each, give for the tensors of each form."""
        for part in cuts(0, length(x), rows):
            calls, y = self.recorded(rows_of(x, part))
            read = {names: self.read(names, each) for names, each in calls.items()}
            units = torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
            for columns in cuts(0, y.shape[1], outputs):
                v = units[columns, None].expand(-1, *y.shape)
                by_call = self.by_call(calls, y, v, batched=outputs > 1)
                while by_call:  # those of one form are dropped before the next one's are copied
                    names, gs = by_call.popitem()
                    sums = self.sums(names, calls[names], read[names])
                    yield Passed(names, sums, part, columns, read[names], self.given(names, gs))

    def sums(self, names: Names, calls: list[Call], read: Tensor) -> Sums:
        """What tensors do at all positions of their calls."""
        module, form = self.forms[names]
        return replace(form.sums(module, *calls[0]), positions=read.shape[1])

    def read(self, names: Names, calls: list[Call]) -> Tensor:
        """What tensors read; calls of a module that is called several times are further positions."""
        module, form = self.forms[names]
        return joined([form.read(module, h) for h, _ in calls])

    def given(self, names: Names, gs: list[Tensor]) -> Tensor:
        """Derivatives by what tensors give, (n, k, positions, width), from those of their calls."""
        module, form = self.forms[names]
        parts = [form.given(module, g.flatten(0, 1)) for g in gs]
        k, n = gs[0].shape[:2]
        return joined([part.reshape(k, n, *part.shape[1:]).transpose(0, 1) for part in parts])

    def recorded(self, x: Inputs) -> tuple[dict[Names, list[Call]], Tensor]:
        """Every call of tensors with a known form; and the outputs (n, k)."""
        calls: dict[Names, list[Call]] = {}

        def recorder(names: Names) -> Recorder:
            def record(h: Tensor, output: Tensor) -> Tensor:
                calls.setdefault(names, []).append((h.detach().clone(), output))
                return output.clone()  # what comes next may write into it

            return record

        ends = [form.watched(part, recorder(names)) for names, (part, form) in self.forms.items()]
        try:
            with torch.enable_grad():
                y = self(x)
        finally:
            for end in ends:
                end()
        return calls, y

    def by_call(
        self, calls: Mapping[Names, list[Call]], y: Tensor, v: Tensor, *, batched: bool
    ) -> dict[Names, list[Tensor]]:
        """Derivatives of `sum_ib v[a, i, b] y[i, b]` by the output of every call, (a, *output): of all a in
        one pass, batched, or else of a single one."""
        outs = [out for each in calls.values() for _, out in each]
        if not outs:
            return {}

        def derivatives(of: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(y, outs, of, retain_graph=True, materialize_grads=True)

        found = vmap(derivatives)(v) if batched else [g[None] for g in derivatives(v[0])]
        gs = iter(found)
        return {names: [next(gs) for _ in each] for names, each in calls.items()}

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
        shares: dict[Names, tuple[Tensor, Sums]] = {}
        for names in self.forms.keys() & calls.keys():
            if all(len(h) == len(out) == len(y) for h, out in calls[names]):  # rows may be on another axis
                shares[names] = self._share(names, calls[names], gs[names])
        agreeing = self._agreeing({names: share for names, (share, _) in shares.items()}, squares)
        kept = {names: form for names, form in self.forms.items() if names in agreeing}
        if len(kept) < len(self.forms):  # what another form makes be called is not called without it
            reached = replace(self, forms=kept).recorded(x)[0]
            kept = {names: each for names, each in kept.items() if names in reached}
        subject = replace(self, forms=kept)
        layers = [
            LayerWork(layer_of(names[0]), sum(self.tensors[name].numel() for name in names), shares[names][1])
            for names in kept
        ]
        layers += [LayerWork(layer_of(name), p.numel(), None) for name, p in subject.without_form().items()]
        return replace(subject, layers=tuple(layers), batched=batched)

    def _tried_pass(
        self, calls: dict[Names, list[Call]], y: Tensor, v: Tensor
    ) -> tuple[dict[Names, list[Tensor]], bool]:
        """Derivatives of one combination of outputs, and whether passes of several can go as one."""
        try:
            return self.by_call(calls, y, v[None], batched=True), True
        except RuntimeError:  # what vmap cannot map
            return self.by_call(calls, y, v[None], batched=False), False

    def _share(self, names: Names, calls: list[Call], gs: list[Tensor]) -> tuple[Tensor, Sums]:
        """The kernel of some tensors that their form gives, and what they do."""
        module, form = self.forms[names]
        read, given = self.read(names, calls), self.given(names, gs)
        sums = self.sums(names, calls, read)
        work = Work(len(read), len(read), 1, read.itemsize, OUTPUT_FORMS["trace"])
        side = Passed(names, sums, slice(len(read)), slice(1), read, given).share(work)
        ones = {own_name(name): 1.0 for name in names}
        return form.block(module, side, side, Contraction("a", "a", ""), ones), sums

    def _gradient_squares(self, y: Tensor, v: Tensor) -> dict[str, float]:
        """Squared lengths of the gradients of `sum_ia v[i, a] y[i, a]`, by name."""
        found = torch.autograd.grad(y, list(self.tensors.values()), v, materialize_grads=True)
        lengths = torch.stack([torch.linalg.vector_norm(g) for g in found])
        return dict(zip(self.tensors, lengths.square().tolist(), strict=True))

    def _agreeing(self, shares: Mapping[Names, Tensor], squares: Mapping[str, float]) -> set[Names]:
        """The forms whose kernel of a row is the square of its gradient, and zero for others."""
        if not shares:
            return set()
        got = torch.stack(list(shares.values()))
        want = torch.zeros_like(got)
        own = [sum(squares[name] for name in names) for names in shares]
        want[:, 0, 0] = got.new_tensor(own)
        off = (got - want).abs().amax((1, 2))
        agree = (off <= AGREEMENT[got.element_size()] * want[:, 0, 0]).tolist()
        return {names for names, well in zip(shares, agree, strict=True) if well}


def joined(parts: list[Tensor]) -> Tensor:
    """Positions of several calls (..., positions, numbers) as those of one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)


@dataclass(frozen=True)
class Passed:
    """Of the tensors of one form, what a pass backward of some rows and outputs gives: read (n, positions,
    fan_in), given (n, k, positions, width)."""

    names: Names
    sums: Sums
    rows: slice
    outputs: slice
    read: Tensor
    given: Tensor

    def keeps_gradients(self, work: Work) -> bool:
        """Whether gradients are wanted, not what they are made of."""
        return self.sums.keeps_gradients(work.n1, work.n2, work.k, work.outputs)

    def room(self, work: Work, n: int, k: int) -> LayerShare:
        """For what is wanted of the tensors, of n inputs and k outputs in all."""
        if self.keeps_gradients(work):
            return Gradients.room(n, k, self.read, self.given, self.sums.groups)
        return Derivatives.room(n, k, self.read, self.given)

    def share(self, work: Work) -> LayerShare:
        """What is wanted of these rows and outputs alone."""
        if not self.keeps_gradients(work):
            return Derivatives(self.read, self.given.transpose(1, 2))  # nothing is copied
        n, k = self.given.shape[:2]
        share = self.room(work, n, k)
        share.write(slice(n), slice(k), self.read, self.given)
        return share


def full_names(path: str, module: nn.Module, form: Form) -> Names:
    """Names in the network of the trained tensors of a module's form."""
    own = module.named_parameters(recurse=False)
    return tuple(f"{path}.{name}".lstrip(".") for name, p in own if p.requires_grad and name in form.tensors)


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
