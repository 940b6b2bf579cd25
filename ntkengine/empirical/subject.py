"""A network as empirical implementations see it: any torch module, its trained tensors and known forms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ntkengine.blocks import Contraction, Derivatives
from ntkengine.empirical.forms import Form, form_of
from ntkengine.empirical.implementation import LayerWork, layers_of
from ntkengine.errors import SpecError, UnsupportedError
from ntkengine.network import Network

Inputs = Any  # a tensor (n, ...), or a tuple, list or dict of such, as the module takes them
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
        with torch.no_grad():
            outputs = bare(first).shape[1]
        return replace(bare, outputs=outputs).tried(first)

    def __call__(self, x: Inputs) -> Tensor:
        """Outputs (n, k); further axes of the module's outputs are part of k."""
        return flat(call(self.module, x))

    def without_form(self) -> dict[str, nn.Parameter]:
        """The tensors whose Jacobians are needed."""
        known = {name for path, (part, _) in self.forms.items() for name in full_names(path, part)}
        return {name: p for name, p in self.tensors.items() if name not in known}

    def derivatives(self, x: Inputs) -> dict[str, Derivatives]:
        """What tensors with a known form read, and the derivatives of what they give, for each output; calls
        of a module that is called several times are further positions."""
        calls, y = self.recorded(x)
        with torch.enable_grad():
            totals = y.sum(0).unbind()
        gs = [self.by_call(calls, total) for total in totals]
        return {path: self.joined(path, calls[path], [g[path] for g in gs]) for path in calls}

    def recorded(self, x: Inputs) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], Tensor]:
        """Input and output of every call of a module with a known form, by path; and the outputs (n, k)."""
        calls: dict[str, list[tuple[Tensor, Tensor]]] = {}

        def record(path: str) -> Any:
            def hook(_: Any, args: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> Tensor:
                h = args[0] if args else next(iter(named.values()))
                calls.setdefault(path, []).append((h.detach().clone(), output))
                return output.clone()  # what comes next may write into it

            return hook

        hooks = [
            part.register_forward_hook(record(path), with_kwargs=True)
            for path, (part, _) in self.forms.items()
        ]
        try:
            with torch.enable_grad():
                y = self(x)
        finally:
            for hook in hooks:
                hook.remove()
        return calls, y

    def by_call(
        self, calls: Mapping[str, list[tuple[Tensor, Tensor]]], total: Tensor
    ) -> dict[str, list[Tensor]]:
        """Derivatives of a number by the output of every call, by path."""
        outs = [y for each in calls.values() for _, y in each]
        if not outs:
            return {}
        found = torch.autograd.grad(total, outs, retain_graph=True, allow_unused=True)
        gs = iter(filled(found, outs))
        return {path: [next(gs) for _ in each] for path, each in calls.items()}

    def joined(
        self, path: str, calls: list[tuple[Tensor, Tensor]], gs: Sequence[list[Tensor]]
    ) -> Derivatives:
        """The derivatives of one module over its calls, from those for each output."""
        module, form = self.forms[path]
        read = [form.read(module, h) for h, _ in calls]
        given = [form.given(module, torch.stack(each, dim=1)) for each in zip(*gs, strict=True)]
        return Derivatives(torch.cat(read, dim=1), torch.cat(given, dim=2))

    def jacobians(self, x: Inputs, tensors: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """Jacobians `df_a / dp` of some tensors by name, (n, k, p)."""
        from ntkengine.empirical.jacobian import Jacobian  # which stands on this module

        return Jacobian(self.module, tensors).row_gradients(x) if tensors else {}

    def tried(self, x: Inputs) -> Subject:
        """The subject with those forms alone that give the kernel which gradients give, on these rows and for
        a random combination of outputs: a tensor may be used where no form sees it."""
        calls, y = self.recorded(x)
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y)
        with torch.enable_grad():
            total = (y * v).sum()
        gs = self.by_call(calls, total)
        gradients = self._row_gradients(x, v)
        kept: dict[str, tuple[nn.Module, Form]] = {}
        layers: dict[str, LayerWork] = {}
        for path, (module, form) in self.forms.items():
            names = full_names(path, module)
            want = sum((gradients[name] @ gradients[name].T for name in names), y.new_zeros(()))
            rows = length(x)  # a module may hold them on another axis
            if path not in calls or any(len(h) != rows or len(out) != rows for h, out in calls[path]):
                continue
            sides = self.joined(path, calls[path], [gs[path]])
            ones = dict.fromkeys((name.rpartition(".")[2] for name in names), 1.0)
            got = form.block(module, sides, sides, Contraction("a", "a", ""), ones)
            if bool(((got - want).abs() <= AGREEMENT[y.element_size()] * want.abs().max()).all()):
                kept[path] = (module, form)
                sums = form.sums(module, *calls[path][0])
                sums = replace(sums, positions=sides.h.shape[1])
                layers[path] = LayerWork(path, sum(p.numel() for _, p in trained(module)), sums)
        subject = replace(self, forms=kept)
        for name, p in subject.without_form().items():
            path = name.rpartition(".")[0]
            layers[path] = LayerWork(path, p.numel() + (layers[path].numbers if path in layers else 0), None)
        return replace(subject, layers=tuple(layers.values()))

    def _row_gradients(self, x: Inputs, v: Tensor) -> dict[str, Tensor]:
        """Gradients of `sum_a v[i, a] f_a(x_i)`, one row each, by name (n, p)."""
        rows = []
        for i in range(length(x)):
            with torch.enable_grad():
                total = (self(rows_of(x, slice(i, i + 1))) * v[i]).sum()
            found = torch.autograd.grad(total, list(self.tensors.values()), allow_unused=True)
            rows.append(filled(found, list(self.tensors.values())))
        return {name: torch.stack([row[i].flatten() for row in rows]) for i, name in enumerate(self.tensors)}


def trained(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The module's own tensors that require gradients."""
    return [(name, p) for name, p in module.named_parameters(recurse=False) if p.requires_grad]


def full_names(path: str, module: nn.Module) -> list[str]:
    """Names of the module's own trained tensors in the network."""
    return [f"{path}.{name}".lstrip(".") for name, _ in trained(module)]


def filled(gradients: Sequence[Tensor | None], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Gradients, with zeros for tensors that were not used."""
    return [p.new_zeros(p.shape) if g is None else g for g, p in zip(gradients, tensors, strict=True)]


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
