"""Activations: each a layer of its own kind, the function and its dual in one class."""

from pydantic.json_schema import SkipJsonSchema

from ntkengine.activations.base import Activation
from ntkengine.activations.elementwise import Elementwise
from ntkengine.activations.exponentials import Exp, ExpNormalized, Gabor, Gaussian
from ntkengine.activations.numeric import NumericActivation
from ntkengine.activations.periodic import Cos, Rbf, Sin
from ntkengine.activations.piecewise_linear import ABRelu, Abs, LeakyRelu, Relu
from ntkengine.activations.polynomials import Hermite, Linear, Monomial, Polynomial, Quadratic
from ntkengine.activations.smooth import Erf, Gelu, SigmoidLike
from ntkengine.activations.soft import Elu, Mish, Selu, Sigmoid, Silu, Softplus, Tanh
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
    | Sigmoid
    | Softplus
    | Silu
    | Mish
    | Elu
    | Selu
    | SkipJsonSchema[Elementwise]
)

__all__ = [
    "ABRelu",
    "Abs",
    "Activation",
    "AnyActivation",
    "Cos",
    "Elementwise",
    "Elu",
    "Erf",
    "Exp",
    "ExpNormalized",
    "Gabor",
    "Gaussian",
    "Gelu",
    "Hermite",
    "LeakyRelu",
    "Linear",
    "Mish",
    "Monomial",
    "NumericActivation",
    "Polynomial",
    "Quadratic",
    "Rbf",
    "RectifiedMonomial",
    "Relu",
    "Selu",
    "Sigmoid",
    "SigmoidLike",
    "Sign",
    "Silu",
    "Sin",
    "Softplus",
    "Tanh",
]
