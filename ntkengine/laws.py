"""Init laws: how a raw weight is drawn, and the moments that infinite-width rules need. Torch-free.

All laws are symmetric about 0, so odd moments vanish.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from math import comb
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.spec import Positive, spec


class Law(ABC):
    """A symmetric distribution of one weight."""

    gaussian = False

    @abstractmethod
    def sample(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        """`count` draws; the first m of a longer draw are those of a draw of m (widths are nested)."""

    @abstractmethod
    def even_moment(self, order: int) -> float:
        """`E[w^order]`, `order` even; `inf` where it does not exist."""

    @property
    def variance(self) -> float:
        return self.even_moment(2)

    def moment(self, order: int) -> float:
        """`E[w^order]`."""
        return 0.0 if order % 2 else self.even_moment(order)

    def cumulant(self, order: int) -> float:
        """The cumulant kappa_order; `inf` where the moment of that order does not exist."""
        moments = tuple(self.moment(k) for k in range(order + 1))
        return cumulants(moments)[order] if math.isfinite(moments[order]) else math.inf


@lru_cache(maxsize=512)
def cumulants(moments: tuple[float, ...]) -> tuple[float, ...]:
    """Cumulants of order 0, 1, ... from the raw moments of the same orders.

    `kappa_n = m_n - sum_{j=1}^{n-1} C(n-1, j-1) kappa_j m_{n-j}`
    """
    kappa = [0.0] * len(moments)
    for n in range(1, len(moments)):
        lower = sum(comb(n - 1, j - 1) * kappa[j] * moments[n - j] for j in range(1, n))
        kappa[n] = moments[n] - lower
    return tuple(kappa)


def double_factorial(n: int) -> int:
    """`n (n - 2) (n - 4) ...`, 1 for n < 1."""
    return math.prod(range(n, 0, -2))


@spec
class Normal(Law):
    """Normal with mean 0."""

    kind: Literal["normal"] = "normal"
    scale: Positive = 1.0
    """Standard deviation."""

    gaussian = True

    def sample(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        return self.scale * generator.standard_normal(count)

    def even_moment(self, order: int) -> float:
        return double_factorial(order - 1) * self.scale**order

    def cumulant(self, order: int) -> float:
        return self.scale**2 if order == 2 else 0.0


@spec
class Uniform(Law):
    """Uniform on [-half_width, half_width]; variance half_width^2 / 3."""

    kind: Literal["uniform"] = "uniform"
    half_width: Positive = 1.0
    """Half the length of the interval."""

    def sample(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        return self.half_width * (2.0 * generator.random(count) - 1.0)

    def even_moment(self, order: int) -> float:
        return self.half_width**order / (order + 1)


@spec
class Rademacher(Law):
    """+scale or -scale with equal probability."""

    kind: Literal["rademacher"] = "rademacher"
    scale: Positive = 1.0
    """Standard deviation."""

    def sample(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        return np.where(generator.random(count) < 0.5, -self.scale, self.scale)

    def even_moment(self, order: int) -> float:
        return self.scale**order


@spec
class Laplace(Law):
    """Laplace (double exponential) with mean 0."""

    kind: Literal["laplace"] = "laplace"
    scale: Positive = 1.0
    """Standard deviation (not the usual rate parameter, which is scale / sqrt(2))."""

    def sample(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        return generator.laplace(0.0, self.scale / math.sqrt(2), count)

    def even_moment(self, order: int) -> float:
        return math.factorial(order) * self.scale**order * 0.5 ** (order // 2)


@spec
class StudentT(Law):
    """Student's t; moments of order df and above do not exist."""

    kind: Literal["student_t"] = "student_t"
    df: Positive
    """Degrees of freedom."""
    scale: Positive = 1.0
    """Factor on the standard t; the variance is scale^2 df / (df - 2)."""

    def sample(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        return self.scale * generator.standard_t(self.df, count)

    def even_moment(self, order: int) -> float:
        if order >= self.df:
            return math.inf
        factors = (self.df * (2 * i - 1) / (self.df - 2 * i) for i in range(1, order // 2 + 1))
        return math.prod(factors) * self.scale**order


@spec
class Zero(Law):
    """A trained tensor that starts at 0."""

    kind: Literal["zero"] = "zero"

    gaussian = True  # the degenerate case: all cumulants vanish

    def sample(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        return np.zeros(count)

    def even_moment(self, order: int) -> float:
        return float(order == 0)


AnyLaw = Annotated[Normal | Uniform | Rademacher | Laplace | StudentT | Zero, Field(discriminator="kind")]
