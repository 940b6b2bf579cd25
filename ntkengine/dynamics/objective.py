"""A network on data with a loss: the velocity that training gives to its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ntkengine.dynamics.losses import Loss
from ntkengine.network import Network


@dataclass(frozen=True)
class Velocity:
    """`d theta / dt` and the loss, both where it was taken."""

    theta: Tensor
    loss: float


class Objective:
    """The loss of a network on training data as a function of its weights theta, one flat vector.

    Under gradient flow `d theta / dt = -rate * grad L`, tensor by tensor, with rate = N^-c from the
    parameterization; a step of gradient descent is one Euler step of it.
    """

    def __init__(self, network: Network, loss: Loss, x: Tensor, y: Tensor) -> None:
        self.network = network
        self.loss = loss
        self.x = x
        self.y = y
        self._tensors = list(network.trained().values())
        rates = network.rates()
        self._rates = torch.cat(
            [torch.full_like(p, rates[name]).flatten() for name, p in network.trained().items()]
        )

    def theta(self) -> Tensor:
        """The network's weights, a copy."""
        return parameters_to_vector(self._tensors).detach().clone()

    def load(self, theta: Tensor) -> None:
        """Put weights into the network."""
        with torch.no_grad():
            vector_to_parameters(theta, self._tensors)

    def velocity(self, theta: Tensor) -> Velocity:
        """`-rate * grad L` at theta."""
        self.load(theta)
        with torch.enable_grad():
            loss = self.loss.value(self.network(self.x), self.y)
            gradient = torch.autograd.grad(loss, self._tensors)
        flat = torch.cat([part.flatten() for part in gradient])
        return Velocity(-self._rates * flat, float(loss.detach()))

    def derivative_along(self, x: Tensor, direction: Tensor) -> Tensor:
        """`df(x) / dt` (n, k) as the loaded weights move along `direction`: a Jacobian-vector product.

        Taken as the derivative of the vector-Jacobian product, which is linear in its vector: two
        backward passes cost far less here than torch's forward mode.
        """
        with torch.enable_grad():
            f = self.network(x)
            vector = torch.zeros_like(f, requires_grad=True)
            pulled = torch.autograd.grad(f, self._tensors, vector, create_graph=True)
            along = torch.cat([part.flatten() for part in pulled]) @ direction
            (tangent,) = torch.autograd.grad(along, vector)
        return tangent
