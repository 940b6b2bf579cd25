"""Activations: each a layer of its own kind, the function and its dual in one class."""

from ntkengine.activations.base import Activation
from ntkengine.activations.exponentials import Exp, ExpNormalized, Gabor, Gaussian
from ntkengine.activations.periodic import Cos, Rbf, Sin
from ntkengine.activations.piecewise_linear import ABRelu, Abs, LeakyRelu, Relu
from ntkengine.activations.polynomials import Hermite, Linear, Monomial, Polynomial, Quadratic
from ntkengine.activations.smooth import Erf, Gelu, SigmoidLike, Tanh
from ntkengine.activations.steps import RectifiedMonomial, Sign

AnyActivation = (
    Linear
    | Relu
    | LeakyRelu
    | ABRelu
    | Abs
    | Quadratic
    | Monomial
    | Polynomial
    | Hermite
    | Sign
    | RectifiedMonomial
    | Erf
    | SigmoidLike
    | Gelu
    | Sin
    | Cos
    | Rbf
    | Exp
    | ExpNormalized
    | Gaussian
    | Gabor
    | Tanh
)

__all__ = [
    "ABRelu",
    "Abs",
    "Activation",
    "AnyActivation",
    "Cos",
    "Erf",
    "Exp",
    "ExpNormalized",
    "Gabor",
    "Gaussian",
    "Gelu",
    "Hermite",
    "LeakyRelu",
    "Linear",
    "Monomial",
    "Polynomial",
    "Quadratic",
    "Rbf",
    "RectifiedMonomial",
    "Relu",
    "SigmoidLike",
    "Sign",
    "Sin",
    "Tanh",
]
