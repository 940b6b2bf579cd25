"""Points of the law of one neuron's weights, with probabilities: what stands for an infinitely wide layer.
Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntkengine.errors import UnsupportedError
from ntkengine.laws import Law

Array = NDArray[np.float64]

FEWEST = 4  # points of a rule along each weight, below which a product of rules is worse than Sobol points
BITS = 50  # of a coordinate of a Sobol point
NEGLIGIBLE = 1e-12  # relative, of what is left of a law's next polynomial once all of its values are nodes


@dataclass(frozen=True)
class Particles:
    """`E[g(w)] = sum_k p_k g(w_k)` over independent numbers w, each with its law."""

    points: Array
    """w (K, numbers)."""
    probabilities: Array
    """p (K,), positive, of sum 1."""
    rule: str
    """How they were chosen: `gauss` or `sobol`."""


def particles(laws: Sequence[Law], most: int, seed: int) -> Particles:
    """At most `most` particles of independent numbers with those laws.

    A product of Gauss rules where it has 4 points or more along each number: exact for polynomials
    of degree below twice that, and converging exponentially for smooth functions. Otherwise, and for laws
    without all moments, scrambled Sobol points of equal probability (Owen, 1995), a power of 2 of them;
    only these depend on the seed.
    """
    order = int(most ** (1.0 / len(laws)) + 1e-9)
    if order >= FEWEST and all(np.isinf(law.tail_order) for law in laws):
        return product([gauss_rule(law, order) for law in laws])
    return sobol(laws, most, seed)


def gauss_rule(law: Law, order: int) -> tuple[Array, Array]:
    """Nodes and probabilities of the Gauss rule of a law: `E[w^j] = sum_i p_i w_i^j` for j < 2 order.

    By Lanczos iterations on a finer rule that is exact to that degree, whose tridiagonal matrix
    is that of the law (Golub and Welsch, "Calculation of Gauss quadrature rules", 1969; Gautschi, "Orthogonal
    polynomials", 2004, section 2.2.3). A law of fewer values gives these.

    >>> from ntkengine import Uniform
    >>> nodes, probabilities = gauss_rule(Uniform(half_width=1.0), 2)
    >>> (nodes**2).round(12).tolist(), probabilities.round(12).tolist()
    ([0.333333333333, 0.333333333333], [0.5, 0.5])
    """
    from scipy.linalg import eigh_tridiagonal

    degree = 2 * order
    points, weights = law.nodes(np.empty(0), law.panel_order(degree), degree)
    basis = np.sqrt(weights / weights.sum())[None]
    diagonal, beside = [], []
    while True:
        image = points * basis[-1]
        diagonal.append(float(image @ basis[-1]))
        for _ in range(2):  # once is not enough for orthogonality
            image = image - basis.T @ (basis @ image)
        size = float(np.linalg.norm(image))
        if len(diagonal) == order or size <= NEGLIGIBLE * float(np.abs(points).max()):
            break
        beside.append(size)
        basis = np.concatenate([basis, image[None] / size])
    nodes, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside))
    return nodes, vectors[0] ** 2


def product(rules: Sequence[tuple[Array, Array]]) -> Particles:
    """All combinations of the nodes of several rules."""
    points = np.meshgrid(*(nodes for nodes, _ in rules), indexing="ij")
    weights = np.meshgrid(*(probabilities for _, probabilities in rules), indexing="ij")
    probabilities = np.prod([each.ravel() for each in weights], axis=0)
    return Particles(np.stack([each.ravel() for each in points], axis=1), probabilities, "gauss")


def sobol(laws: Sequence[Law], most: int, seed: int) -> Particles:
    """Scrambled Sobol points through the laws' quantiles."""
    from scipy.stats import qmc

    if len(laws) > qmc.Sobol.MAXDIM:
        raise UnsupportedError(
            f"a neuron has {len(laws)} weights: Sobol points end at {qmc.Sobol.MAXDIM} dimensions",
            hint="use inputs of fewer dimensions, or a wide network",
        )
    generator = np.random.default_rng(seed)
    exponent = int(np.log2(most))
    points = qmc.Sobol(len(laws), bits=BITS, seed=generator).random_base2(exponent) + 0.5 ** (BITS + 1)
    columns = [law.quantile(column) for law, column in zip(laws, points.T, strict=True)]
    count = 2**exponent
    return Particles(np.stack(columns, axis=1), np.full(count, 1.0 / count), "sobol")
