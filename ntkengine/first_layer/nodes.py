"""Draws of the weights of one feature over which expectations are means: all that there are, or scrambled
Sobol points. Every pair of inputs uses the same ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntkengine.errors import UnsupportedError
from ntkengine.first_layer.preactivation import Preactivation
from ntkengine.laws import Law

Array = NDArray[np.float64]

BITS = 50  # of a coordinate
MOST_VALUES = 2**14  # that are enumerated
MOST_DIMENSIONS = 21201  # of Sobol points (Joe and Kuo, 2008)


def laws_of(preactivation: Preactivation, dimension: int) -> list[Law]:
    """The laws of the bias, where there is one, and of the weights: the first coordinates are the best."""
    bias = [] if preactivation.b_law is None else [preactivation.b_law]
    return [*bias, *[preactivation.W_law] * dimension]


class NodeSets(ABC):
    """Sets of equally weighted draws."""

    count: int
    """The number of sets."""
    points: int
    """The number of draws in each."""

    @abstractmethod
    def blocks(self, index: int, size: int) -> Iterator[Array]:
        """The draws of a set, (m, bias and weights), `size` at a time or fewer."""


@dataclass(frozen=True)
class Enumerated(NodeSets):
    """All values, in one set."""

    laws: tuple[Law, ...]

    count = 1

    @classmethod
    def of(cls, preactivation: Preactivation, dimension: int) -> Enumerated | None:
        """None where a law is not discrete, or there are too many values."""
        laws = laws_of(preactivation, dimension)
        total = 1
        for law in laws:
            total *= len(law.atoms)
            if not 0 < total <= MOST_VALUES:
                return None
        return cls(tuple(laws))

    @property
    def points(self) -> int:  # type: ignore[override]
        return int(np.prod([len(law.atoms) for law in self.laws]))

    def blocks(self, index: int, size: int) -> Iterator[Array]:
        shape = [len(law.atoms) for law in self.laws]
        for start in range(0, self.points, size):
            places = np.unravel_index(np.arange(start, min(start + size, self.points)), shape)
            columns = (np.asarray(law.atoms)[at] for law, at in zip(self.laws, places, strict=True))
            yield np.stack(list(columns), axis=1)


@dataclass(frozen=True)
class Scrambled(NodeSets):
    """Sobol points with independent random scramblings (Matousek, "On the L2-discrepancy for anchored boxes",
    1998), mapped through the laws' quantiles. They depend on the laws, the dimension, the seed and the number
    of points alone."""

    preactivation: Preactivation
    dimension: int
    points: int
    count: int
    seed: int

    def __post_init__(self) -> None:
        if len(laws_of(self.preactivation, self.dimension)) > MOST_DIMENSIONS:
            raise UnsupportedError(
                f"quadrature over {self.dimension} weights: Sobol points end at {MOST_DIMENSIONS} dimensions",
                hint='use {"kind": "normal"} laws, a polynomial activation, or inputs of fewer dimensions',
            )

    def blocks(self, index: int, size: int) -> Iterator[Array]:
        from scipy.stats import qmc

        laws = laws_of(self.preactivation, self.dimension)
        biases = len(laws) - self.dimension
        groups = [*[(laws[0], slice(1))] * biases, (laws[-1], slice(biases, None))]
        generator = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(index,)))
        sobol = qmc.Sobol(len(laws), scramble=True, bits=BITS, seed=generator)
        for start in range(0, self.points, size):
            u = sobol.random(min(size, self.points - start)) + 0.5 ** (BITS + 1)  # inside (0, 1)
            for law, columns in groups:
                u[:, columns] = law.quantile(u[:, columns])
            yield u
