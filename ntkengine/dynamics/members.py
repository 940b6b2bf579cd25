"""The members of a run at its start: networks of one model from several seeds, stacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ntkengine.data import inputs_shape
from ntkengine.dynamics.spec import RunSpec
from ntkengine.network import Network


@dataclass(frozen=True)
class Members:
    """S networks that differ in their tensors alone: trained ones as rows of theta (S, P), in the order of
    `network.trained()`; frozen ones, those of a `centred` start, by name with a leading axis S."""

    network: Network
    theta: Tensor
    fixed: Mapping[str, Tensor]
    rates: Mapping[str, float]  # of trained tensors, by name

    @classmethod
    def of(cls, spec: RunSpec) -> Members:
        """The members that a spec starts from."""
        in_shape = inputs_shape(spec.data.x, "/data/x")[1:]
        networks = [
            spec.training.network(spec.model, in_shape, seed=seed, weights=weights)
            for seed, weights in spec.starts()
        ]
        trained = [parameters_to_vector(network.trained().values()).detach() for network in networks]
        frozen = [
            {name: p.detach() for name, p in network.named_parameters() if not p.requires_grad}
            for network in networks
        ]
        fixed = {name: torch.stack([each[name] for each in frozen]) for name in frozen[0]}
        return cls(networks[0], torch.stack(trained), fixed, spec.rates(networks[0].rates()))

    def __len__(self) -> int:
        return len(self.theta)

    def function(self, theta: Tensor, fixed: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Outputs (n, k) of the network with trained tensors theta (P,) and frozen tensors `fixed`."""
        outputs: Tensor = functional_call(self.network, {**self.named(theta), **fixed}, (x,))
        return outputs

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """The numbers theta (P,) as tensors by name."""
        trained = self.network.trained()
        parts = torch.split(theta, [p.numel() for p in trained.values()])
        return {name: part.view(p.shape) for (name, p), part in zip(trained.items(), parts, strict=True)}

    def rates_by_number(self) -> Tensor:
        """The factor on the learning rate of each number of theta (P,)."""
        trained = self.network.trained()
        return torch.cat([torch.full_like(p, self.rates[name]).flatten() for name, p in trained.items()])

    def loaded(self, member: int, theta: Tensor) -> Network:
        """The network of a member, with weights theta (P,); there is one, which the next call loads anew."""
        with torch.no_grad():
            vector_to_parameters(theta, self.network.trained().values())
            for name, stacked in self.fixed.items():
                self.network.get_parameter(name).copy_(stacked[member])
        return self.network
