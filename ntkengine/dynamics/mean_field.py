"""The mean-field limit: an infinitely wide hidden layer as particles under gradient flow. Torch-free.

In mean-field parameterization with learning rates proportional to N, `f(x) = (1/N) sum_i v_i s(z(x; w_i))`
and `d theta_i / dt = -N dL / d theta_i` for each neuron theta_i = (w_i, b_i, v_i).As N grows the neurons
become a distribution rho, `f(x) = E[v s(z(x; w))]`, and each of its points moves with the velocity
`-grad_theta dL/drho(theta)`. That carries a quadrature of the initial law along with its probabilities p_k:
`f(x) = sum_k p_k v_k s(z(x; w_k))` with `d theta_k / dt = -(1 / p_k) dL / d theta_k`.

Source: Mei, Montanari and Nguyen, "A mean field view of the landscape of two-layer neural networks" (2018),
equations 5 to 8; Chizat and Bach, "On the global convergence of gradient descent" (2018), section 2.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from ntkengine.activations.base import Activation
from ntkengine.dynamics.losses import AnyLoss, HalfSum
from ntkengine.dynamics.particles import Particles, particles
from ntkengine.dynamics.schedules import Axis
from ntkengine.dynamics.training import Stop, Training
from ntkengine.errors import SpecError, UnsupportedError
from ntkengine.laws import Law
from ntkengine.layer import Site
from ntkengine.layers import Dense
from ntkengine.model import Model
from ntkengine.parameterizations import MeanField, Role
from ntkengine.spec import Positive, spec

if TYPE_CHECKING:
    from ntkengine.network import Network
    from ntkengine.weights import Weights

cached_particles = lru_cache(maxsize=16)(particles)


@spec
class MeanFieldFlow(Training):
    """Gradient flow of an infinitely wide hidden layer: particles with probabilities stand for its neurons.

    For networks of a dense layer, an activation and a dense read-out without bias, in mean-field
    parameterization with learning rates proportional to N; the width is left out of account. Time is that of
    those networks. Kernels are the limit of N times theirs. `weights` are those of the particles, with their
    `probabilities`. Sizes of weights are `|theta|^2 = E[|theta_k|^2]`, so that the relative displacement is
    that of a wide network.
    """

    table_for: ClassVar[str] = "sgd"
    kind: Literal["mean_field"] = "mean_field"
    t_end: Positive
    """Time at which to stop."""
    particles: Annotated[int, Field(ge=16, le=1_000_000, strict=True)] = 1331
    """At most how many; a product of Gauss rules where that gives 4 or more points for each weight of a
    neuron, 11 for three; scrambled Sobol points otherwise."""
    rtol: Annotated[float, Field(strict=True, ge=1e-13, le=1e-2)] = 1e-8
    """Relative tolerance of a step."""
    atol: Annotated[float, Field(strict=True, gt=0, le=1e-2)] = 1e-10
    """Absolute tolerance of a step."""
    learning_rates: dict[str, Positive] | None = None
    """Factors on the learning rate by tensor, `layers.0.W`, or layer, `layers.0`; the longer name wins."""
    loss: AnyLoss = Field(default_factory=HalfSum)
    """Loss, which fixes the unit of time."""
    stop: Stop | None = None
    """When to stop before the end."""

    def axis(self) -> Axis:
        return Axis(self.t_end, discrete=False)

    def evaluations(self, m: int) -> float:
        return 300.0  # as for gradient flow

    def place(self, model: Model, in_shape: tuple[int, ...]) -> Site:
        return self._of_particles(model, in_shape, 0).model.check_finite(in_shape)

    def network(
        self, model: Model, in_shape: tuple[int, ...], *, seed: int, weights: Weights | None
    ) -> Network:
        from ntkengine.dynamics.particle_network import particle_network

        if weights is not None:
            raise SpecError(
                "the particles of a mean-field limit are those of the law",
                pointer="/weights",
                hint="leave weights out, or train a finite network from them",
            )
        found = self._of_particles(model, in_shape, seed)
        return particle_network(found.model, found.particles, in_shape)

    def _of_particles(self, model: Model, in_shape: tuple[int, ...], seed: int) -> ParticleModel:
        hidden, readout = parts_of(model, in_shape)
        chosen = cached_particles(laws_of(hidden, readout, in_shape[0]), self.particles, seed)
        wide = replace(hidden, width=len(chosen.points))
        changed = replace(model, layers=(wide, *model.layers[1:]), parameterization=MeanField())
        return ParticleModel(changed, chosen)


class ParticleModel(NamedTuple):
    """A model with a neuron for each particle, whose learning rates are not scaled, and the particles."""

    model: Model
    particles: Particles


def parts_of(model: Model, in_shape: tuple[int, ...]) -> tuple[Dense, Dense]:
    """The layers with weights of a network that has a mean-field limit.

    Raises:
        UnsupportedError: it is not of that form.
    """
    form = "a dense layer, an activation and a dense read-out without bias"
    match model.layers:
        case (Dense() as hidden, Activation(), Dense(width=int(), b_std=None) as readout):
            pass
        case _:
            raise UnsupportedError(
                f"the mean-field limit is that of {form}",
                pointer="/layers",
                hint="train a wide network instead",
            )
    if len(in_shape) != 1 or model.initial_function != "raw":
        raise UnsupportedError(
            "the mean-field limit is that of a network as drawn, on vectors",
            pointer="/initial_function",
            hint="its start is 0 in any case, for laws are symmetric",
        )
    if not all(scaled_as_mean_field(leaf) for leaf in model.place(in_shape).leaves()):
        raise UnsupportedError(
            "the mean-field limit is that of mean-field parameterization, learning rates proportional to N",
            pointer="/parameterization",
            hint='use {"kind": "mean_field", "lr_scale": "width"}',
        )
    return hidden, readout


def scaled_as_mean_field(leaf: Site) -> bool:
    """Whether a layer's exponents are those of the limit."""
    wanted = MeanField(lr_scale="width").table().get(leaf.role or Role.HIDDEN)
    return leaf.role is None or leaf.scaling == wanted or replace(leaf.scaling, c_bias=None) == wanted


def laws_of(hidden: Dense, readout: Dense, dimension: int) -> tuple[Law, ...]:
    """The laws of one neuron's numbers: incoming weights, bias where there is one, outgoing weights."""
    bias = () if hidden.b_std is None else (hidden.b_law,)
    return (*[hidden.W_law] * dimension, *bias, *[readout.W_law] * (readout.width or 1))
