"""Activations: each a layer of its own kind, the function and its dual in one class."""

from ntkengine.activations.base import Activation
from ntkengine.activations.piecewise_linear import LeakyRelu, Relu
from ntkengine.activations.polynomials import Linear, Monomial, Quadratic
from ntkengine.activations.smooth import Erf, Gelu, Sin, Tanh

AnyActivation = Linear | Relu | LeakyRelu | Quadratic | Monomial | Erf | Gelu | Sin | Tanh

__all__ = [
    "Activation",
    "AnyActivation",
    "Erf",
    "Gelu",
    "LeakyRelu",
    "Linear",
    "Monomial",
    "Quadratic",
    "Relu",
    "Sin",
    "Tanh",
]
