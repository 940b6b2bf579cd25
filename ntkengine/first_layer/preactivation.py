"""The pre-activations of a first layer, and which expectations over them exist. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ntkengine.errors import UnsupportedError
from ntkengine.laws import Law


@dataclass(frozen=True)
class Growth:
    """`|s(z)| <= C (1 + |z|^order) exp(rate |z|)` for some C, and the same of s'."""

    order: int = 0
    rate: float = 0.0

    @property
    def growth(self) -> Growth:
        return self

    @property
    def pieces(self) -> None:
        return None


@dataclass(frozen=True)
class Preactivation:
    """`z(x) = W_factor sum_k w_k x_k + b_factor b` for one feature: independent raw draws `w_k ~ W_law` and
    `b ~ b_law`, and constant factors (multipliers, times the parameterization's powers of the fan-in)."""

    W_law: Law
    W_factor: float
    b_law: Law | None = None
    b_factor: float = 0.0

    def summands(self, largest: float) -> Iterator[tuple[str, Law, float]]:
        """Name, law and largest factor of what z sums, where no entry of x is larger than `largest`."""
        yield "W_law", self.W_law, abs(self.W_factor) * largest
        if self.b_law is not None:
            yield "b_law", self.b_law, abs(self.b_factor)

    def missing(self, growth: Growth, power: int, largest: float) -> str | None:
        """What keeps `E[|s(z)|^power]` from existing for inputs with entries up to `largest`, if anything."""
        order, rate = power * growth.order, power * growth.rate
        for name, law, factor in self.summands(largest):
            if factor and order >= law.tail_order:
                return f"moments of order {order}, and {name} has only those below {law.tail_order:g}"
            if factor and rate * factor >= law.tail_rate and rate:
                reach = law.tail_rate / factor
                return f"E[exp(t |z|)] at t = {rate:g}, which this {name} has only for t below {reach:g}"
        return None

    def require(self, growth: Growth, largest: float) -> None:
        """Refuse where second moments after the activation do not exist.

        Raises:
            UnsupportedError: `E[s(z)^2]` or `E[s'(z)^2]` is infinite.
        """
        missing = self.missing(growth, 2, largest)
        if missing is not None:
            raise UnsupportedError(
                f"E[s(z)^2] does not exist: it needs {missing}",
                hint="use a law with lighter tails (a normal, or student_t with more degrees of freedom), "
                "or an activation that grows more slowly",
            )

    def doubt(self, growth: Growth, largest: float) -> str | None:
        """Why a standard error says nothing, if so: fourth moments after the activation are infinite."""
        missing = self.missing(growth, 4, largest)
        if missing is None:
            return None
        return f"standard errors mean nothing here, where products have no variance: that needs {missing}"
