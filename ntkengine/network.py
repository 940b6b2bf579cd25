"""The finite network of a spec, as a torch module whose tensors carry the spec's names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from torch import Tensor, nn

from ntkengine.layer import Site


class LayerModule(nn.Module):
    """One site: its trained tensors, and the modules of the layers inside it."""

    def __init__(self, site: Site, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.site = site
        self.recorders: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}  # of linear maps that are watched
        prefix = f"{site.path}." if site.path else ""
        for name in site.layer.shapes(site):
            self.register_parameter(name, nn.Parameter(tensors[prefix + name]))
        if site.parts:
            self.add_module(
                site.layer.parts_field, nn.ModuleList(LayerModule(part, tensors) for part in site.parts)
            )

    def parts(self) -> tuple[nn.Module, ...]:
        """The modules of the layers inside this one."""
        return (
            tuple(cast("nn.ModuleList", self._modules[self.site.layer.parts_field]))
            if self.site.parts
            else ()
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        own = cast("dict[str, Tensor]", self._parameters)
        if self.recorders:
            return self.site.layer.recorded(self.site, own, x, lengths, self.record)
        return self.site.layer.apply(self.site, own, x, self.parts(), lengths)

    def record(self, name: str, h: Tensor, y: Tensor) -> Tensor:
        """What goes on of the output y of a linear map that reads h."""
        recorder = self.recorders.get(name)
        return y if recorder is None else recorder(h, y)


class Network(nn.Module):
    """`f(x) = scale * (body(x) - twin(x))`; the twin is there for a `centred` or `doubled` start only.

    The body's tensors keep the names of the spec (`layers.0.W`); the twin's are below `twin.`.
    """

    def __init__(self, body: LayerModule, scale: float, twin: LayerModule | None) -> None:
        super().__init__()
        self.site = body.site
        self.layers = nn.ModuleList(body.parts())
        self.scale = scale
        self.twin = twin

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, k) on inputs (n, d)."""
        y = self.site.layer.apply(self.site, {}, x, tuple(self.layers))
        if self.twin is not None:
            y = y - self.twin(x)
        return self.scale * y

    def trained(self) -> dict[str, nn.Parameter]:
        """The trained tensors by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def trained_layers(self) -> Iterator[tuple[str, LayerModule]]:
        """The modules that hold trained tensors, by path; a tensor's name is `path.W`."""
        for path, module in self.named_modules():
            if isinstance(module, LayerModule) and any(
                p.requires_grad for p in module.parameters(recurse=False)
            ):
                yield path, module

    def rates(self) -> dict[str, float]:
        """The factor N^-c on the learning rate of each trained tensor, by name."""
        return {
            f"{path}.{name}": module.site.rate(name)
            for path, module in self.trained_layers()
            for name, _ in module.named_parameters(recurse=False)
        }


def build(site: Site, tensors: Mapping[str, Tensor], scale: float, start: str) -> Network:
    """The network of a placed model with these tensors by name; see `Model.network`."""
    body = LayerModule(site, cloned(tensors))
    if start == "raw":
        return Network(body, scale, None)
    twin = LayerModule(site, cloned(tensors))
    if start == "doubled":
        return Network(body, scale / math.sqrt(2), twin)
    return Network(body, scale, twin.requires_grad_(False))


def cloned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies, so that a body and its twin do not share tensors."""
    return {name: tensor.clone() for name, tensor in tensors.items()}
