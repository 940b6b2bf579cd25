"""The network of particles: an ordinary one, whose plain gradient flow is that of the mean-field limit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ntkengine.dynamics.particles import Particles
from ntkengine.model import Model
from ntkengine.network import Network
from ntkengine.weights import expected_shapes

READOUT = "layers.2.W"


class Spread(nn.Module):
    """An activation of particles, `K sqrt(p_k) s(z_k / sqrt(p_k))`.

    Tensors of the network are `u_k = sqrt(p_k) theta_k`: then `d theta_k / dt = -(1 / p_k) dL / d theta_k` is
    `du / dt = -dL / du`, `|u|^2` is `E[|theta|^2]`, and the read-out, which divides by the number of
    particles K, gives `sum_k p_k v_k s(z_k)`.
    """

    def __init__(self, activation: nn.Module, probabilities: Tensor) -> None:
        super().__init__()
        self.activation = activation
        self.register_buffer("probabilities", probabilities)

    @property
    def roots(self) -> Tensor:
        """sqrt(p) (K,)."""
        return self.get_buffer("probabilities").sqrt()

    def forward(self, z: Tensor, lengths: Tensor | None = None) -> Tensor:
        """On preactivations (n, K) of the tensors u."""
        roots = self.roots
        out: Tensor = self.activation(z / roots, lengths)
        return len(roots) * roots * out


def particle_network(model: Model, chosen: Particles, in_shape: tuple[int, ...]) -> Network:
    """The network of a placed model with a neuron for each particle, at their start.

    The numbers of a particle are its incoming weights, its bias where there is one, its outgoing weights.
    """
    shapes = expected_shapes(model.check_finite(in_shape))
    u = chosen.points * np.sqrt(chosen.probabilities)[:, None]
    weights: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        columns = u[:, : u.shape[1] if name == READOUT else max(shape[:-1], default=1)]
        u = u[:, columns.shape[1] :]
        weights[name] = np.ascontiguousarray(columns if name == READOUT else columns.T).reshape(shape)
    network = model.network(in_shape, weights=weights)
    network.layers[1] = Spread(network.layers[1], torch.from_numpy(chosen.probabilities.copy()))
    return network


def distribution(network: Network) -> dict[str, Tensor]:
    """What weights are to be shown as: the trained tensors by name; those of particles as theta,
    beside their `probabilities` (K,)."""
    tensors = {name: p.detach() for name, p in network.trained().items()}
    for layer in network.layers:
        if isinstance(layer, Spread):
            roots = layer.roots
            shown = {name: u / (roots[:, None] if name == READOUT else roots) for name, u in tensors.items()}
            return shown | {"probabilities": layer.get_buffer("probabilities")}
    return tensors
