"""Numbers of features, and kernels, as powers of the hidden width N: a factor or tensors, and an exponent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

ZERO, ONE = Fraction(0), Fraction(1)

# A width as rules see it: a factor and a power of the symbol N.
Power = tuple[float, Fraction]


@dataclass(frozen=True)
class Size:
    """A number of features: known, or the symbol N that goes to infinity (None), times a factor."""

    value: int | None
    factor: float = 1.0

    def power(self, exponent: Fraction) -> Power:
        """`n^exponent` as a factor and a power of N."""
        scale = self.factor ** float(exponent)
        if self.value is None:
            return scale, exponent
        return scale * float(self.value) ** float(exponent), ZERO

    def times(self, factor: float) -> Size:
        """So many times as many features."""
        return replace(self, factor=self.factor * factor)


@dataclass(frozen=True)
class Graded:
    """`values * N^power`, the leading term of a series in N, on each of some sets of pairs: those of
    (x1, x2) first, then, where they are kept, those of each row with itself.

    `vanishes` says that it is zero for any inputs, by a factor that is: such a term leads nothing.
    """

    values: tuple[Tensor, ...]
    power: Fraction = ZERO
    vanishes: bool = False

    @property
    def pair(self) -> Tensor:
        """The values on the pairs (x1, x2)."""
        return self.values[0]

    @property
    def own(self) -> tuple[Tensor, ...]:
        """The values of each row with itself; empty where they are not kept."""
        return self.values[1:]

    def on_pairs(self) -> Graded:
        """The term on the pairs (x1, x2) alone."""
        return replace(self, values=self.values[:1])

    def scaled(self, factor: float, power: Fraction = ZERO) -> Graded:
        """The term times `factor N^power`."""
        same = factor == 1 or self.vanishes
        values = self.values if same else tuple(value * factor for value in self.values)
        raised = self.power + power if power else self.power
        return Graded(values, raised, self.vanishes or factor == 0)

    def times(self, other: Graded) -> Graded:
        """The product, on the sets of pairs that both have."""
        values = tuple(a * b for a, b in zip(self.values, other.values, strict=False))
        return Graded(values, self.power + other.power, self.vanishes or other.vanishes)

    def plus_constant(self, constant: float, power: Fraction) -> Graded:
        """The leading term of the sum with `constant N^power` on all pairs."""
        if constant == 0 or (self.power > power and not self.vanishes):
            return self
        if self.power == power and not self.vanishes:
            return replace(self, values=tuple(value + constant for value in self.values))
        return Graded(tuple(value.new_full(value.shape, constant) for value in self.values), power)

    def __add__(self, other: Graded) -> Graded:
        """The leading term of the sum, on the sets of pairs that both have."""
        if self.vanishes or other.vanishes:
            return other if self.vanishes else self
        if self.power == other.power:
            return Graded(tuple(a + b for a, b in zip(self.values, other.values, strict=False)), self.power)
        return self if self.power > other.power else other


class Combination(NamedTuple):
    """`sum_i factors[i] values[i] + constant`, on arrays of one shape."""

    factors: tuple[float, ...]
    constant: float

    def of(self, *values: Tensor) -> Tensor:
        """A new array, or the one that stays as it is, by one pass for each number that is not 0."""
        used = [(f, value) for f, value in zip(self.factors, values, strict=True) if f]
        if not used:
            return values[0].new_full(values[0].shape, self.constant)
        (factor, value), *others = used
        if factor == 1 and not others and not self.constant:
            return value
        total = value * factor
        for f, other in others:
            total.add_(other, alpha=f)
        return total.add_(self.constant) if self.constant else total


@dataclass(frozen=True)
class Leading:
    """The leading term of `sum_i factor_i terms[i] + constant`, with powers of N in each factor."""

    combination: Combination  # of the values of the terms
    power: Fraction
    vanishes: bool

    @classmethod
    def of(cls, terms: Sequence[tuple[Graded, Power]], constant: Power) -> Leading:
        """Of sets of pairs that all terms have; a sum that vanishes is as its first term."""
        factors = [0.0 if term.vanishes else factor for term, (factor, _) in terms] + [constant[0]]
        powers = [term.power + power if power else term.power for term, (_, power) in terms] + [constant[1]]
        known = [power for factor, power in zip(factors, powers, strict=True) if factor]
        highest = max(known, default=powers[0])
        leading = [factor if power == highest else 0.0 for factor, power in zip(factors, powers, strict=True)]
        return cls(Combination(tuple(leading[:-1]), leading[-1]), highest, not known)

    def on(self, *terms: Graded) -> Graded:
        """The term, on the sets of pairs that all terms have."""
        sets = zip(*(term.values for term in terms), strict=False)
        return Graded(tuple(self.combination.of(*values) for values in sets), self.power, self.vanishes)


def times(*powers: Power) -> Power:
    """The product of factors and powers of N."""
    exponents = [p[1] for p in powers if p[1]]  # adding fractions takes longer than all the rest
    return math.prod(p[0] for p in powers), sum(exponents[1:], exponents[0]) if exponents else ZERO
