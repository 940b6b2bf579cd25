"""Parameterizations as tables of exponents. Torch-free.

The effective weight of a layer with fan-in n is `multiplier * n^-a * w`, where `w` is the trained
tensor, drawn from `law_factor * law / n^b`; its learning rate is `eta * N^-c`, N the hidden width.
Source: Yang and Hu, "Feature learning in infinite-width neural networks" (2021), section 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from ntkengine.spec import Count, spec

HALF = Fraction(1, 2)


class Role(StrEnum):
    """Where a layer with weights stands: before, between or after the layers of width N."""

    INPUT = "input"
    HIDDEN = "hidden"
    READOUT = "readout"


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """One row of a table: the exponents of a layer and the constants that go with them."""

    a: Fraction = Fraction(0)
    b: Fraction = Fraction(0)
    c: Fraction = Fraction(0)
    c_bias: Fraction | None = None  # of a bias outside the scaling, where it is another one
    multiplier: float = 1.0
    law_factor: float = 1.0
    std_scales_law: bool = False  # W_std and b_std are initial scales, not part of the function

    def function_std(self, std: float) -> float:
        return 1.0 if self.std_scales_law else std

    def law_std(self, std: float) -> float:
        return std if self.std_scales_law else 1.0


class Parameterization(ABC):
    """A table from roles to scalings; a role without a row is refused."""

    kind: str

    @abstractmethod
    def table(self) -> dict[Role, Scaling]: ...


@spec
class NTK(Parameterization):
    """Multipliers carry the width: a = 1/2, b = 0, c = 0 in every layer."""

    kind: Literal["ntk"] = "ntk"

    def table(self) -> dict[Role, Scaling]:
        return dict.fromkeys(Role, Scaling(a=HALF))


@spec
class Standard(Parameterization):
    """Laws carry the width: a = 0, b = 1/2, c = 0 in every layer; W_std and b_std scale the laws."""

    kind: Literal["standard"] = "standard"
    base_width: Count | None = None
    """Hidden width n0 at which the laws are those of the plain form; above it the multiplier falls as
    (n / n0)^-1/2, so that the kernel has a finite limit (neural-tangents' `s` is n / n0)."""

    def table(self) -> dict[Role, Scaling]:
        plain = Scaling(b=HALF, std_scales_law=True)
        if self.base_width is None:
            return dict.fromkeys(Role, plain)
        root = self.base_width**0.5
        based = Scaling(a=HALF, multiplier=root, law_factor=1 / root, std_scales_law=True)
        return {Role.INPUT: plain, Role.HIDDEN: based, Role.READOUT: based}


@spec
class MeanField(Parameterization):
    """One hidden layer, read-out divided by N: a = 1/2 (input), 1 (read-out), b = 0."""

    kind: Literal["mean_field"] = "mean_field"
    lr_scale: Literal["none", "width"] = "none"
    """`width`: every learning rate is multiplied by N (c = -1), so that training takes O(1) time;
    `none`: it is not (c = 0), and training slows down as 1/N."""

    def table(self) -> dict[Role, Scaling]:
        c = {"none": Fraction(0), "width": Fraction(-1)}[self.lr_scale]
        return {Role.INPUT: Scaling(a=HALF, c=c), Role.READOUT: Scaling(a=Fraction(1), c=c)}


@spec
class MuP(Parameterization):
    """Maximal update: every layer learns features at every width, and outputs move by O(1) in O(1) time.

    a = 1/2, 1/2, 1 (input, hidden, read-out) and b = 0. Rates: c = -1 in every layer under gradient descent
    and gradient flow; c = 0, 1/2, 0 under Adam. Biases that are not scaled have c = -1, -1, 0, and 0 under
    Adam. With one hidden layer and no such read-out bias `sgd` is the mean-field table with `lr_scale` =
    `width`. Exponents of the input layer are of the data's dimension, not of the width.

    Source: Yang and Hu (2021), table 1, shifted to b = 0 by their symmetry (a, b, c) -> (a + t, b - t,
    c - 2t); Yang et al., "Tensor Programs V" (2022), table 8, shifted by that of Adam, (a + t, b - t, c - t).
    """

    kind: Literal["mup"] = "mup"
    optimizer: Literal["sgd", "adam"] = "sgd"
    """What the learning rates are for: `sgd` for gradient descent and gradient flow, or `adam`."""

    def table(self) -> dict[Role, Scaling]:
        one, zero = Fraction(1), Fraction(0)
        weights = {"sgd": (-one, -one, -one), "adam": (zero, HALF, zero)}[self.optimizer]
        biases = {"sgd": (-one, -one, zero), "adam": (zero, zero, zero)}[self.optimizer]
        columns = zip(Role, (HALF, HALF, one), weights, biases, strict=True)
        return {role: Scaling(a=a, c=c, c_bias=c_bias) for role, a, c, c_bias in columns}


Exponent = Annotated[float, Field(ge=-10, le=10, strict=True)]


@spec
class Exponents:
    """The three exponents of one role."""

    a: Exponent = 0.0
    """The effective weight is W_std * n^-a * w, n the fan-in."""
    b: Exponent = 0.0
    """The trained tensor w is drawn from W_law / n^b."""
    c: Exponent = 0.0
    """The learning rate is eta * N^-c, N the hidden width."""

    def scaling(self) -> Scaling:
        a, b, c = (Fraction(str(v)) for v in (self.a, self.b, self.c))
        return Scaling(a=a, b=b, c=c)


@spec
class AbcParameterization(Parameterization):
    """Any exponents, a row for each role."""

    kind: Literal["abc"] = "abc"
    input: Exponents
    """First layer with weights."""
    hidden: Exponents = Field(default_factory=Exponents)
    """Layers with weights between the first and the last."""
    readout: Exponents
    """Last layer with weights."""

    def table(self) -> dict[Role, Scaling]:
        rows = {Role.INPUT: self.input, Role.HIDDEN: self.hidden, Role.READOUT: self.readout}
        return {role: row.scaling() for role, row in rows.items()}


AnyParameterization = Annotated[
    NTK | Standard | MeanField | MuP | AbcParameterization, Field(discriminator="kind")
]
