"""Init laws: how a raw weight is drawn, and what infinite-width rules need of it: moments, quantiles, and
panels on which its density is smooth. Torch-free.

All laws are symmetric about 0, so odd moments vanish.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from math import comb
from typing import Annotated, Literal, cast, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.spec import Positive, spec

Array = NDArray[np.float64]
RAREST = 2.0**-60  # probability of a tail at which a tabulated quantile ends
SMOOTH = 16  # Gauss-Legendre nodes on a panel of a density that is no polynomial


class Law(ABC):
    """A symmetric distribution of one weight."""

    gaussian = False

    @abstractmethod
    def sample(self, generator: np.random.Generator, count: int) -> Array:
        """`count` draws; the first m of a longer draw are those of a draw of m (widths are nested)."""

    @abstractmethod
    def even_moment(self, order: int) -> float:
        """`E[w^order]`, `order` even; `inf` where it does not exist."""

    @abstractmethod
    def quantile(self, u: Array) -> Array:
        """The inverse distribution function at u in (0, 1), elementwise."""

    @abstractmethod
    def partial_moments(self, at: Array, top: int) -> Array:
        """`E[w^j; w < at]`, j = 0, ..., top along a new first axis; `at` is finite."""

    @abstractmethod
    def edges(self, top: int) -> Array:
        """Ends of panels, ascending: on each the density is a polynomial to rounding, and outside them w adds
        nothing to moments up to that order. Values of a discrete law. Empty where no panels reach that far.
        """

    @abstractmethod
    def panel_order(self, degree: int) -> int:
        """Gauss-Legendre nodes of a panel that integrate, to rounding, a polynomial of that degree times the
        density or times partial moments."""

    @abstractmethod
    def nodes(self, breaks: Array, order: int, top: int) -> tuple[Array, Array]:
        """Points and weights (..., m) of the expectation of functions that are smooth between the breaks
        (..., k) and grow as w^top, with that many points between two ends of panels."""

    @property
    def atoms(self) -> tuple[float, ...]:
        """The values of a discrete law, of equal probability."""
        return ()

    @property
    def tail_order(self) -> float:
        """Moments of orders below this exist."""
        return math.inf

    @property
    def tail_rate(self) -> float:
        """`E[exp(t |w|)]` exists for t below this."""
        return math.inf

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


class Continuous(Law):
    """A law with a density."""

    @abstractmethod
    def density(self, w: Array) -> Array:
        """The density at w."""

    @final
    def nodes(self, breaks: Array, order: int, top: int) -> tuple[Array, Array]:
        own = self.edges(top)
        every = np.broadcast_to(own, (*breaks.shape[:-1], len(own)))
        ends = np.sort(np.concatenate([every, np.clip(breaks, own[0], own[-1])], axis=-1), axis=-1)
        x, weights = np.polynomial.legendre.leggauss(order)
        half = 0.5 * np.diff(ends, axis=-1)[..., None]
        points = ends[..., :-1, None] + half * (1.0 + x)
        shape = (*breaks.shape[:-1], -1)
        return points.reshape(shape), (half * weights * self.density(points)).reshape(shape)


class Discrete(Law):
    """A law of few values."""

    @final
    def quantile(self, u: Array) -> Array:
        return np.take(self.atoms, (u * len(self.atoms)).astype(int))

    @final
    def partial_moments(self, at: Array, top: int) -> Array:
        below = np.asarray(self.atoms) < at[..., None]
        return np.stack([(below * np.asarray(self.atoms) ** j).mean(-1) for j in range(top + 1)])

    @final
    def edges(self, top: int) -> Array:
        return np.asarray(self.atoms)

    @final
    def panel_order(self, degree: int) -> int:
        return degree // 2 + 1

    @final
    def nodes(self, breaks: Array, order: int, top: int) -> tuple[Array, Array]:
        points = np.broadcast_to(self.atoms, (*breaks.shape[:-1], len(self.atoms)))
        return points, np.full(points.shape, 1.0 / len(self.atoms))


def both_sides(half: list[float]) -> Array:
    """Ends of panels on both sides of 0, from those on one."""
    return np.array([*(-end for end in reversed(half)), 0.0, *half])


def farthest(top: int) -> float:
    """From where on powers of that order leave the range of float64."""
    return float(10.0 ** (280.0 / (top + 2)))


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
class Normal(Continuous):
    """Normal with mean 0."""

    kind: Literal["normal"] = "normal"
    scale: Positive = 1.0
    """Standard deviation."""

    gaussian = True

    def sample(self, generator: np.random.Generator, count: int) -> Array:
        return self.scale * generator.standard_normal(count)

    def even_moment(self, order: int) -> float:
        return double_factorial(order - 1) * self.scale**order

    def cumulant(self, order: int) -> float:
        return self.scale**2 if order == 2 else 0.0

    def density(self, w: Array) -> Array:
        return np.exp(-0.5 * (w / self.scale) ** 2) / (math.sqrt(2.0 * math.pi) * self.scale)

    def quantile(self, u: Array) -> Array:
        from scipy.special import ndtri

        return self.scale * np.asarray(ndtri(u))

    def partial_moments(self, at: Array, top: int) -> Array:
        """`m_j = (j - 1) s^2 m_(j-2) - t^(j-1) s^2 p(t)`, by parts, at t, for the density p."""
        from scipy.special import ndtr

        t = np.clip(at, -40.0 * self.scale, 40.0 * self.scale)
        moments, end = [np.asarray(ndtr(t / self.scale))], -(self.scale**2) * self.density(t)
        for j in range(1, top + 1):
            before = (j - 1) * self.scale**2 * moments[j - 2] if j > 1 else 0.0
            moments.append(before + t ** (j - 1) * end)
        return np.stack(moments)

    def edges(self, top: int) -> Array:
        return both_sides([1.5 * self.scale * (k + 1) for k in range(6 + math.ceil(top / 3.0))])

    def panel_order(self, degree: int) -> int:
        return SMOOTH + degree // 4


@spec
class Uniform(Continuous):
    """Uniform on [-half_width, half_width]; variance half_width^2 / 3."""

    kind: Literal["uniform"] = "uniform"
    half_width: Positive = 1.0
    """Half the length of the interval."""

    def sample(self, generator: np.random.Generator, count: int) -> Array:
        return self.half_width * (2.0 * generator.random(count) - 1.0)

    def even_moment(self, order: int) -> float:
        return self.half_width**order / (order + 1)

    def density(self, w: Array) -> Array:
        return np.full_like(w, 0.5 / self.half_width)

    def quantile(self, u: Array) -> Array:
        return self.half_width * (2.0 * u - 1.0)

    def partial_moments(self, at: Array, top: int) -> Array:
        h = self.half_width
        t = np.clip(at, -h, h)
        return np.stack([(t ** (j + 1) - (-h) ** (j + 1)) / (2.0 * h * (j + 1)) for j in range(top + 1)])

    def edges(self, top: int) -> Array:
        return np.array([-self.half_width, self.half_width])

    def panel_order(self, degree: int) -> int:
        return degree // 2 + 1


@spec
class Rademacher(Discrete):
    """+scale or -scale with equal probability."""

    kind: Literal["rademacher"] = "rademacher"
    scale: Positive = 1.0
    """Standard deviation."""

    @property
    def atoms(self) -> tuple[float, ...]:
        return -self.scale, self.scale

    def sample(self, generator: np.random.Generator, count: int) -> Array:
        return np.where(generator.random(count) < 0.5, -self.scale, self.scale)

    def even_moment(self, order: int) -> float:
        return self.scale**order


@spec
class Laplace(Continuous):
    """Laplace (double exponential) with mean 0."""

    kind: Literal["laplace"] = "laplace"
    scale: Positive = 1.0
    """Standard deviation (not the usual rate parameter, which is scale / sqrt(2))."""

    def sample(self, generator: np.random.Generator, count: int) -> Array:
        return generator.laplace(0.0, self.scale / math.sqrt(2), count)

    def even_moment(self, order: int) -> float:
        return math.factorial(order) * self.scale**order * 0.5 ** (order // 2)

    @property
    def tail_rate(self) -> float:
        return math.sqrt(2.0) / self.scale

    def density(self, w: Array) -> Array:
        return 0.5 * self.tail_rate * np.exp(-self.tail_rate * np.abs(w))

    def quantile(self, u: Array) -> Array:
        tail = np.log(2.0 * np.minimum(u, 1.0 - u)) / self.tail_rate
        return np.where(u < 0.5, tail, -tail)

    def partial_moments(self, at: Array, top: int) -> Array:
        """Below 0, `m_j = t^j exp(r t) / 2 - (j / r) m_(j-1)` at t, r the rate; above it by symmetry."""
        rate = self.tail_rate
        t = -np.minimum(np.abs(at), 700.0 / rate)
        end = 0.5 * np.exp(rate * t)
        moments = [end]
        for j in range(1, top + 1):
            moments.append(t**j * end - (j / rate) * moments[j - 1])
        above = [self.moment(j) - (-1) ** j * m for j, m in enumerate(moments)]
        return np.where(at < 0, np.stack(moments), np.stack(above))

    def edges(self, top: int) -> Array:
        return both_sides([6.0 * (k + 1) / self.tail_rate for k in range(7 + top)])

    def panel_order(self, degree: int) -> int:
        return SMOOTH + degree // 4


@spec
class StudentT(Continuous):
    """Student's t; moments of order df and above do not exist."""

    kind: Literal["student_t"] = "student_t"
    df: Positive
    """Degrees of freedom."""
    scale: Positive = 1.0
    """Factor on the standard t; the variance is scale^2 df / (df - 2)."""

    def sample(self, generator: np.random.Generator, count: int) -> Array:
        return self.scale * generator.standard_t(self.df, count)

    def even_moment(self, order: int) -> float:
        if order >= self.df:
            return math.inf
        factors = (self.df * (2 * i - 1) / (self.df - 2 * i) for i in range(1, order // 2 + 1))
        return math.prod(factors) * self.scale**order

    @property
    def tail_order(self) -> float:
        return self.df

    @property
    def tail_rate(self) -> float:
        return 0.0

    def density(self, w: Array) -> Array:
        half = 0.5 * self.df
        log_norm = math.lgamma(half + 0.5) - math.lgamma(half) - 0.5 * math.log(math.pi * self.df)
        return np.exp(log_norm - (half + 0.5) * np.log1p((w / self.scale) ** 2 / self.df)) / self.scale

    def quantile(self, u: Array) -> Array:
        """Interpolated in the logarithm of u or 1 - u, down to 2^-60, to 1e-10 of itself or of the scale."""
        low = np.log(np.clip(np.minimum(u, 1.0 - u), RAREST, 0.5))
        size = -self.scale * np.asarray(student_quantiles(self.df)(low))
        return np.where(u < 0.5, -size, size)

    def partial_moments(self, at: Array, top: int) -> Array:
        """`m_j = ((j - 1) n s^2 m_(j-2) - t^(j-1) (n s^2 + t^2) p(t)) / (n - j)`, by parts, at t, for the
        density p and n degrees of freedom."""
        from scipy.special import stdtr

        end_of_range = self.scale * farthest(top)
        t, n = np.clip(at, -end_of_range, end_of_range), self.df * self.scale**2
        moments, end = [np.asarray(stdtr(self.df, t / self.scale))], (n + t * t) * self.density(t)
        for j in range(1, top + 1):
            before = (j - 1) * n * moments[j - 2] if j > 1 else 0.0
            moments.append((before - t ** (j - 1) * end) / (self.df - j))
        return np.stack(moments)

    def edges(self, top: int) -> Array:
        if self.df <= top or 17.0 / (self.df - top) > math.log10(farthest(top)):
            return np.array([])
        reach = math.sqrt(self.df) * 10.0 ** (17.0 / (self.df - top))
        unit = min(1.5, math.sqrt(self.df))
        count = math.ceil(math.log2(reach / unit)) + 1
        return both_sides([self.scale * unit * 2.0**k for k in range(max(count, 1))])

    def panel_order(self, degree: int) -> int:
        return SMOOTH + degree // 4


@lru_cache(maxsize=16)
def student_quantiles(df: float) -> Callable[[Array], Array]:
    """The lower half of the quantiles of the standard t, a function of the logarithm of the probability:
    there is a closed form for few df only, and its inverse by iteration is slow."""
    from scipy.interpolate import CubicSpline
    from scipy.special import stdtrit

    places = np.linspace(math.log(RAREST), math.log(0.5), 2**14)
    return cast("Callable[[Array], Array]", CubicSpline(places, stdtrit(df, np.exp(places))))


@spec
class Zero(Discrete):
    """A trained tensor that starts at 0."""

    kind: Literal["zero"] = "zero"

    gaussian = True  # the degenerate case: all cumulants vanish

    @property
    def atoms(self) -> tuple[float, ...]:
        return (0.0,)

    def sample(self, generator: np.random.Generator, count: int) -> Array:
        return np.zeros(count)

    def even_moment(self, order: int) -> float:
        return float(order == 0)


AnyLaw = Annotated[Normal | Uniform | Rademacher | Laplace | StudentT | Zero, Field(discriminator="kind")]
