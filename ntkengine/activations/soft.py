"""Activations whose duals are numeric: sigmoids, and smooth or exponential relatives of the ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ntkengine.activations.numeric import NumericActivation
from ntkengine.first_layer import Growth
from ntkengine.spec import Real, spec

if TYPE_CHECKING:
    from torch import Tensor

# of "Self-normalizing neural networks" (Klambauer et al., 2017): variance 1 is a stable fixed point
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


@spec
class Tanh(NumericActivation):
    """`tanh(z)`."""

    kind: Literal["tanh"] = "tanh"

    def outline(self) -> Growth:
        return Growth()

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.tanh(z)

    def derivative(self, z: Tensor) -> Tensor:
        """`1 / cosh(z)^2`, by logistic functions so that it keeps its digits far out."""
        import torch

        return 4.0 * torch.sigmoid(2.0 * z) * torch.sigmoid(-2.0 * z)

    def kinked_at(self) -> tuple[float, ...]:
        return ()


@spec
class Sigmoid(NumericActivation):
    """The logistic function `1 / (1 + exp(-z))`."""

    kind: Literal["sigmoid"] = "sigmoid"

    def outline(self) -> Growth:
        return Growth()

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.sigmoid(z)

    def derivative(self, z: Tensor) -> Tensor:
        import torch

        return torch.sigmoid(z) * torch.sigmoid(-z)

    def kinked_at(self) -> tuple[float, ...]:
        return ()


@spec
class Softplus(NumericActivation):
    """`log(1 + exp(z))`."""

    kind: Literal["softplus"] = "softplus"

    def outline(self) -> Growth:
        return Growth(order=1)

    def function(self, z: Tensor) -> Tensor:
        import torch

        # not torch's softplus, which is z itself from 20 on: a jump of 2e-9
        return torch.logaddexp(z, torch.zeros_like(z))

    def derivative(self, z: Tensor) -> Tensor:
        import torch

        return torch.sigmoid(z)

    def kinked_at(self) -> tuple[float, ...]:
        return ()


@spec
class Silu(NumericActivation):
    """`z / (1 + exp(-z))`, also called swish."""

    kind: Literal["silu"] = "silu"

    def outline(self) -> Growth:
        return Growth(order=1)

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.nn.functional.silu(z)

    def derivative(self, z: Tensor) -> Tensor:
        import torch

        return torch.sigmoid(z) * (1.0 + z * torch.sigmoid(-z))

    def kinked_at(self) -> tuple[float, ...]:
        return ()


@spec
class Mish(NumericActivation):
    """`z tanh(log(1 + exp(z)))` (Misra, 2019)."""

    kind: Literal["mish"] = "mish"

    def outline(self) -> Growth:
        return Growth(order=1)

    def function(self, z: Tensor) -> Tensor:
        import torch

        return z * torch.tanh(torch.logaddexp(z, torch.zeros_like(z)))

    def derivative(self, z: Tensor) -> Tensor:
        """`tanh(l) + z sigmoid(z) / cosh(l)^2`, l the softplus of z."""
        import torch

        softplus = torch.logaddexp(z, torch.zeros_like(z))
        steep = 4.0 * torch.sigmoid(2.0 * softplus) * torch.sigmoid(-2.0 * softplus)
        return torch.tanh(softplus) + z * torch.sigmoid(z) * steep

    def kinked_at(self) -> tuple[float, ...]:
        return ()


@spec
class Elu(NumericActivation):
    """`z` for z > 0, `alpha (exp(z) - 1)` otherwise (Clevert et al., 2016)."""

    kind: Literal["elu"] = "elu"
    alpha: Real = 1.0
    """Where it tends to for negative z, times -1; also the slope left of 0."""

    def outline(self) -> Growth:
        return Growth(order=1)

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.where(z > 0, z, self.alpha * torch.expm1(z.clamp(max=0.0)))

    def derivative(self, z: Tensor) -> Tensor:
        return exponential_slope(z, self.alpha)

    def kinked_at(self) -> tuple[float, ...]:
        return (0.0,)


@spec
class Selu(NumericActivation):
    """`1.0507 z` for z > 0, `1.0507 * 1.6733 (exp(z) - 1)` otherwise, in full the constants of
    Klambauer et al., "Self-normalizing neural networks" (2017)."""

    kind: Literal["selu"] = "selu"

    def outline(self) -> Growth:
        return Growth(order=1)

    def function(self, z: Tensor) -> Tensor:
        import torch

        return torch.nn.functional.selu(z)

    def derivative(self, z: Tensor) -> Tensor:
        return SELU_SCALE * exponential_slope(z, SELU_ALPHA)

    def kinked_at(self) -> tuple[float, ...]:
        return (0.0,)


def exponential_slope(z: Tensor, alpha: float) -> Tensor:
    """1 for z > 0, `alpha exp(z)` otherwise."""
    import torch

    return torch.where(z > 0, 1.0, alpha * torch.exp(z.clamp(max=0.0)))
