"""What the infinite-width rules pass on, and the types of structured blocks.

A kernel is carried as the coefficient of its leading power of the hidden width N (`Graded`), so that
no rule ever meets an infinity, or a zero, that only the limit makes. Torch-free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

ZERO = Fraction(0)

# A width as rules see it: a factor and a power of the symbol N.
Power = tuple[float, Fraction]


@dataclass(frozen=True)
class Size:
    """A number of features: known, or the symbol N that goes to infinity (None)."""

    value: int | None

    def power(self, exponent: Fraction) -> Power:
        """`n^exponent` as a factor and a power of N."""
        if self.value is None:
            return 1.0, exponent
        return float(self.value) ** float(exponent), ZERO


@dataclass(frozen=True)
class Graded:
    """`values * N^power`, the leading term of a series in N, on each of some sets of pairs.

    `vanishes` says that it is zero for any inputs, by a factor that is: such a term leads nothing.
    """

    values: tuple[Tensor, ...]
    power: Fraction = ZERO
    vanishes: bool = False

    @property
    def pair(self) -> Tensor:
        """The values on the pairs (x1, x2), shape (n1, n2)."""
        return self.values[0]

    def scaled(self, factor: float, power: Fraction = ZERO) -> Graded:
        """The term times `factor N^power`."""
        values = tuple(value * factor for value in self.values)
        return Graded(values, self.power + power, self.vanishes or factor == 0)

    def times(self, factor: Tensor) -> Graded:
        """The term times a factor for each pair."""
        return replace(self, values=tuple(value * factor for value in self.values))

    def plus_constant(self, constant: float, power: Fraction) -> Graded:
        """The leading term of the sum with `constant N^power` on all pairs."""
        import torch

        values = tuple(torch.full_like(value, constant) for value in self.values)
        return self + Graded(values, power, constant == 0)

    def __add__(self, other: Graded) -> Graded:
        """The leading term of the sum."""
        if self.vanishes or other.vanishes:
            return other if self.vanishes else self
        if self.power == other.power:
            return Graded(tuple(a + b for a, b in zip(self.values, other.values, strict=True)), self.power)
        return self if self.power > other.power else other


CumulantRule = Callable[[int, int], "Tensor | float"]


@dataclass(frozen=True)
class Joint:
    """The joint law of a pair (z, z') of pre-activations with mean 0, batched elementwise.

    `q11 = E[z^2]`, `q12 = E[z z']`, `q22 = E[z'^2]`, tensors that broadcast against each other.
    `higher(i, j)` is the joint cumulant of i copies of z and j of z', i + j > 2; None where the
    law is Gaussian and they vanish.
    """

    q11: Tensor
    q12: Tensor
    q22: Tensor
    higher: CumulantRule | None = None


class Dual(NamedTuple):
    """`value = E[s(z) s(z')]` and `slope = E[s'(z) s'(z')]`, of the shape of q12.

    The errors bound what a numeric method leaves on any entry, beyond rounding; 0 for a closed form.
    """

    value: Tensor
    slope: Tensor
    value_error: float = 0.0
    slope_error: float = 0.0


class Cumulants(NamedTuple):
    """Joint cumulants beyond order two: on (x1, x2), and row by row on (x1, x1) and on (x2, x2)."""

    pair: CumulantRule
    first: CumulantRule
    second: CumulantRule


@dataclass(frozen=True)
class KernelState:
    """Infinite-width state between two layers, for n1 inputs x1 and n2 inputs x2.

    `nngp` holds the second moment `E[h(x1) h(x2)]` of one feature, averaged over features, on the
    pairs (n1, n2), on the diagonal of x1 (n1,) and on that of x2 (n2,). `ntk` (n1, n2) is the NTK of
    the features, `size` their number.
    """

    nngp: Graded
    ntk: Graded
    size: Size
    symmetric: bool  # x2 is x1
    symbolic: bool  # hidden widths are the symbol N
    inputs: tuple[Tensor, Tensor] | None = None  # the features, where they are not random
    cumulants: Cumulants | None = None
    exact_moments: bool = False  # an expectation was taken by exact moments
    nngp_error: float = 0.0  # of entries where inputs (nearly) coincide, relative to the largest entry
    ntk_error: float = 0.0

    @classmethod
    def from_inputs(cls, x1: Tensor, x2: Tensor, *, symmetric: bool, symbolic: bool) -> KernelState:
        """The state of the inputs themselves, x1 (n1, d) and x2 (n2, d): `nngp = x1 . x2 / d`."""
        import torch

        d = x1.shape[-1]
        pair = x1 @ x2.T / d
        first, second = ((x * x).sum(-1) / d for x in (x1, x2))
        if symmetric:  # a matrix product sums in another order
            pair = pair.diagonal_scatter(first)
        return cls(
            nngp=Graded((pair, first, second)),
            ntk=Graded((torch.zeros_like(pair),), vanishes=True),
            size=Size(d),
            symmetric=symmetric,
            symbolic=symbolic,
            inputs=(x1, x2),
        )

    def with_inputs(self, x1: Tensor, x2: Tensor) -> KernelState:
        """The state of other inputs in the place of these."""
        return self.from_inputs(x1, x2, symmetric=self.symmetric, symbolic=self.symbolic)

    def mirrored(self) -> KernelState:
        """The state of one set of inputs, symmetric to the last bit: elementwise functions need not give
        that by themselves, for they round differently in the vector lanes and in what is left over."""

        def mirror(square: Tensor) -> Tensor:
            return square.triu() + square.triu(1).T

        pair, *diagonals = self.nngp.values
        nngp = replace(self.nngp, values=(mirror(pair), *diagonals))
        return replace(self, nngp=nngp, ntk=replace(self.ntk, values=(mirror(self.ntk.pair),)))

    def known_inputs(self) -> tuple[Tensor, Tensor]:
        """The features of a state that are the network's inputs."""
        if self.inputs is None:
            raise ValueError("the features of this state are random")
        return self.inputs

    def nngp_pair(self) -> Graded:
        """The second moment on the pairs (x1, x2) alone."""
        return replace(self.nngp, values=(self.nngp.pair,))

    def features(self, width: int | None) -> Size:
        """The size of a hidden layer of that width."""
        return Size(None if self.symbolic else width)

    def joints(self) -> tuple[Joint, Joint, Joint]:
        """The joint laws of the pairs (x1, x2), and row by row of (x1, x1) and of (x2, x2)."""
        pair, first, second = self.nngp.values
        higher = self.cumulants or (None, None, None)
        return (
            Joint(first[:, None], pair, second[None, :], higher[0]),
            Joint(first, first, first, higher[1]),
            Joint(second, second, second, higher[2]),
        )

    def elementwise(self, dual: Callable[[Joint], Dual], *, exact_moments: bool) -> KernelState:
        """The state after an activation with that dual; coincident pairs are taken from the diagonal."""
        import torch

        pair, first, second = self.joints()
        out, diagonal = dual(pair), dual(first)
        value, slope = out.value, out.slope.expand_as(out.value)
        if self.symmetric:
            value = value.diagonal_scatter(diagonal.value)
            slope = slope.diagonal_scatter(diagonal.slope.expand_as(diagonal.value))
        last = diagonal.value if self.symmetric else dual(second).value
        # what rounding does to a coincident pair: a kink puts a root into the slope's dual, a step into both
        rounded = max(self.nngp_error, float(torch.finfo(value.dtype).eps))
        near = dual(replace(first, q12=first.q12 * (1.0 - rounded)))
        return replace(
            self,
            nngp=Graded((value, diagonal.value, last), vanishes=self.nngp.vanishes and not bool(value.any())),
            ntk=self.ntk.times(slope),
            inputs=None,
            cumulants=None,
            exact_moments=self.exact_moments or exact_moments,
            nngp_error=relative_distance(near.value, diagonal.value),
            ntk_error=max(self.ntk_error, relative_distance(near.slope, diagonal.slope)),
        )


def relative_distance(values: Tensor, others: Tensor) -> float:
    """The largest difference, relative to the largest of the others; 0 where these vanish."""
    largest = float(others.abs().max())
    return float((values - others).abs().max()) / largest if largest > 0 else 0.0


@dataclass(frozen=True)
class Contraction:
    """Which output indices of two Jacobians survive, as einsum letters: J_1[i, a], J_2[j, b]."""

    left: str
    right: str
    out: str

    def product(self, first: Tensor, second: Tensor) -> Tensor:
        """`sum_p first[i, a, p] second[j, b, p]`, shape (n1, n2, *out)."""
        import torch

        return torch.einsum(f"i{self.left}p,j{self.right}p->ij{self.out}", first, second)


@dataclass(frozen=True)
class Derivatives:
    """A layer's inputs h (n, *in_shape) and `df_a / d(its output)`, g (n, k, *out_shape)."""

    h: Tensor
    g: Tensor
