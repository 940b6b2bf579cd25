"""Neural tangent kernels: empirical and infinite-width, and networks trained beside them.

Importing this package, and validating specs, needs no torch; computing does.
"""

from ntkengine.activations import Erf, Gelu, LeakyRelu, Linear, Monomial, Quadratic, Relu, Sin, Tanh
from ntkengine.data import Dataset
from ntkengine.dynamics import (
    At,
    Data,
    Every,
    GradientDescent,
    GradientFlow,
    HalfMean,
    HalfSum,
    KernelRecord,
    LinearSchedule,
    Logarithmic,
    LossRecord,
    Mean,
    OutputsRecord,
    RunSpec,
    SlopesRecord,
    Stop,
    WeightsRecord,
    train,
)
from ntkengine.empirical import empirical_nngp, empirical_ntk
from ntkengine.errors import (
    Cancelled,
    EngineError,
    NumericalError,
    ResourceError,
    SpecError,
    UnsupportedError,
)
from ntkengine.infinite import InfiniteKernel, infinite_kernel
from ntkengine.kernels import Empirical, Infinite, KernelResult, KernelSpec, compute_kernel
from ntkengine.laws import Laplace, Normal, Rademacher, StudentT, Uniform, Zero
from ntkengine.layers import Dense, Serial
from ntkengine.model import Model
from ntkengine.parameterizations import NTK, AbcParameterization, Exponents, MeanField, Standard

__all__ = [
    "NTK",
    "AbcParameterization",
    "At",
    "Cancelled",
    "Data",
    "Dataset",
    "Dense",
    "Empirical",
    "EngineError",
    "Erf",
    "Every",
    "Exponents",
    "Gelu",
    "GradientDescent",
    "GradientFlow",
    "HalfMean",
    "HalfSum",
    "Infinite",
    "InfiniteKernel",
    "KernelRecord",
    "KernelResult",
    "KernelSpec",
    "Laplace",
    "LeakyRelu",
    "Linear",
    "LinearSchedule",
    "Logarithmic",
    "LossRecord",
    "Mean",
    "MeanField",
    "Model",
    "Monomial",
    "Normal",
    "NumericalError",
    "OutputsRecord",
    "Quadratic",
    "Rademacher",
    "Relu",
    "ResourceError",
    "RunSpec",
    "Serial",
    "Sin",
    "SlopesRecord",
    "SpecError",
    "Standard",
    "Stop",
    "StudentT",
    "Tanh",
    "Uniform",
    "UnsupportedError",
    "WeightsRecord",
    "Zero",
    "compute_kernel",
    "empirical_nngp",
    "empirical_ntk",
    "infinite_kernel",
    "train",
]
