"""Which solver for which size: planned from shapes and a budget, and printed with the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from ntkengine.errors import NumericalError, ResourceError

if TYPE_CHECKING:
    from torch import Tensor

BUDGET = 2 * 1024**3
TILE_BYTES = 64 * 1024**2
RANK = 200  # of the preconditioner
ITERATIONS = 100  # of conjugate gradients, in estimates
EVALUATIONS = 500  # of a differential equation, in estimates

Method = Literal["eigendecomposition", "cholesky", "conjugate_gradients", "lsoda"]
Rows = Callable[[int, int], Any]  # rows start to stop of a kernel, (rows, n) or (rows, n, k, k)


@dataclass(frozen=True)
class SolverPlan:
    """How the equations are solved, and at what cost."""

    method: Method
    rows: int  # of the matrix
    flops: float
    bytes: float  # held at a time, the kernel in memory included
    reason: str

    def __str__(self) -> str:
        size = f"{self.rows} x {self.rows}"
        return f"{self.method} of {size}: {self.flops:.2g} flops, {self.bytes:.2g} bytes; {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def plan_solver(
    n: int,
    k: int,
    *,
    whole_path: bool,
    joint: bool = False,
    ridge: float = 0.0,
    itemsize: int = 8,
    budget: int = BUDGET,
) -> SolverPlan:
    """The solver for n points and k outputs.

    Args:
        whole_path: whether more is asked for than the end of training: finite times, or a covariance.
        joint: whether outputs are coupled, by blocks (n, n, k, k).
        ridge: without one, the end of training is a pseudo-inverse, which needs the eigenvalues.
        budget: bytes that may be held.

    Raises:
        ResourceError: no solver does what is asked within the budget.

    >>> print(plan_solver(1000, 1, whole_path=True))
    eigendecomposition of 1000 x 1000: 1e+10 flops, 3.2e+07 bytes; all times follow from the modes
    >>> plan_solver(100_000, 1, whole_path=False, ridge=0.1).method
    'conjugate_gradients'
    """
    rows, columns = (n * k, 1) if joint else (n, k)
    square = float(itemsize) * rows * rows
    if whole_path or ridge == 0:
        why = "all times follow from the modes" if whole_path else "a pseudo-inverse needs the eigenvalues"
        chosen = SolverPlan("eigendecomposition", rows, 10.0 * rows**3, 4 * square, why)
    elif 3 * square <= budget:
        why = "the end of training with a ridge is one factorisation"
        chosen = SolverPlan("cholesky", rows, rows**3 / 3.0 + 2.0 * rows**2 * columns, 3 * square, why)
    else:
        held = TILE_BYTES + float(itemsize) * rows * (3 * RANK + 8 * columns)
        work = 2.0 * rows**2 * (columns * ITERATIONS + RANK)
        why = "the kernel is read in tiles, because it does not fit the budget"
        chosen = SolverPlan("conjugate_gradients", rows, work, held, why)
    if chosen.bytes > budget:
        raise ResourceError(
            f"{chosen.method} of {rows} rows needs {chosen.bytes:.3g} bytes, {budget:.3g} are allowed",
            estimate={"bytes": chosen.bytes},
            limit={"bytes": budget},
            hint="ask for the end of training alone, with a ridge: that needs no eigenvalues",
        )
    return chosen


def plan_integration(n: int, k: int, *, joint: bool = False, itemsize: int = 8) -> SolverPlan:
    """The plan of integrating the outputs' own differential equation: for losses that are not squared."""
    rows, columns = (n * k, 1) if joint else (n, k)
    held = float(itemsize) * (rows**2 + 2.0 * (n * k) ** 2)  # and the solver's own matrix
    work = 2.0 * rows**2 * columns * (EVALUATIONS + 5 * n * k) + 5.0 * (n * k) ** 3  # five Jacobians
    return SolverPlan("lsoda", rows, work, held, "the loss has no closed form")


@dataclass(frozen=True)
class RidgeWeights:
    """`alpha` (n, k) with `(K + ridge) alpha = y`, and the work that it took."""

    alpha: Tensor
    iterations: int
    residual: float  # |(K + ridge) alpha - y| / |y|


def conjugate_gradients(
    rows: Rows,
    y: Tensor,
    *,
    ridge: float,
    rank: int = RANK,
    rtol: float = 1e-10,
    max_iterations: int = 2000,
    tile_bytes: int = TILE_BYTES,
    seed: int = 0,
) -> RidgeWeights:
    """Solve `(K + ridge) alpha = y` with K read some rows at a time: f(x) = K(x, X) alpha.

    Preconditioned with a Nystroem approximation of K from `rank` random points, which takes one pass over
    their rows; then each iteration is one pass over the kernel, for all outputs together.

    Args:
        rows: rows start to stop of the kernel, as `lambda start, stop: K[start:stop]` or, from disk,
            `partial(StoredGram(directory).rows, "ntk")`: (rows, n) or (rows, n, k, k).
        y: targets (n, k), or targets less outputs at the start.
        ridge: above 0.
        rtol: ends when the residual is below this times |y|.

    Raises:
        NumericalError: it did not converge in `max_iterations`.

    Source: Frangella, Tropp and Udell (2023), algorithm 5.2, with columns of K as the sketch.

    >>> import torch
    >>> K = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    >>> found = conjugate_gradients(lambda start, stop: K[start:stop], torch.ones(2, 1).double(), ridge=1.0)
    >>> [round(each, 12) for each in found.alpha.flatten().tolist()]
    [0.25, 0.25]
    """
    import numpy as np
    import torch
    from scipy.sparse.linalg import LinearOperator, cg

    n, k = y.shape
    tiles = Tiles(rows, n, k, tile_bytes)
    size = y.numel()
    target = tiles.to_matrix(y.numpy())
    done = 0

    def product(vector: Any) -> Any:
        v = vector.reshape(target.shape)
        return (tiles.product(v) + ridge * v).reshape(-1)

    def count(_: Any) -> None:
        nonlocal done
        done += 1

    condition = nystroem(tiles, ridge, min(rank, len(target)), np.random.default_rng(seed))
    found, failed = cg(
        LinearOperator((size, size), matvec=product, dtype=target.dtype),
        target.reshape(-1),
        rtol=rtol,
        maxiter=max_iterations,
        M=LinearOperator(
            (size, size), matvec=lambda v: condition(v.reshape(target.shape)).reshape(-1), dtype=target.dtype
        ),
        callback=count,
    )
    residual = float(np.linalg.norm(product(found) - target.reshape(-1)) / np.linalg.norm(target))
    if failed:
        raise NumericalError(
            f"conjugate gradients left a residual of {residual:.2g} after {done} iterations",
            pointer="/ridge",
            hint="use a larger ridge or rank",
        )
    return RidgeWeights(torch.from_numpy(found.reshape(tuple(y.shape))), done, residual)


class Tiles:
    """A kernel that is read some rows at a time, as the matrix that it stands for."""

    def __init__(self, rows: Rows, n: int, k: int, tile_bytes: int) -> None:
        self._rows = rows
        self.n = n
        self.joint = len(rows(0, 1).shape) == 4
        self.block = k if self.joint else 1  # rows of the matrix for a point
        self.step = max(1, int(tile_bytes // (8 * n * self.block**2)))

    def to_matrix(self, y: Any) -> Any:
        """Values (n, k) in the layout of the matrix."""
        return y.reshape(self.n * self.block, -1)

    def read(self, start: int, stop: int) -> Any:
        """The matrix's rows of points start to stop."""
        import numpy as np

        part = np.asarray(self._rows(start, stop))
        if not self.joint:
            return part
        return part.transpose(0, 2, 1, 3).reshape((stop - start) * self.block, -1)

    def product(self, v: Any) -> Any:
        """The matrix times v."""
        import numpy as np

        starts = range(0, self.n, self.step)
        return np.concatenate([self.read(at, min(at + self.step, self.n)) @ v for at in starts])


def nystroem(tiles: Tiles, ridge: float, rank: int, random: Any) -> Callable[[Any], Any]:
    """The inverse, up to a factor, of `K_nys + ridge`: K_nys agrees with K on the rows of random points."""
    import numpy as np

    points = np.sort(random.choice(tiles.n, max(1, rank // tiles.block), replace=False))
    strip = np.concatenate([tiles.read(int(at), int(at) + 1) for at in points])
    inside = (points[:, None] * tiles.block + np.arange(tiles.block)).reshape(-1)
    values, vectors = np.linalg.eigh(strip[:, inside])
    kept = values > len(values) * np.finfo(values.dtype).eps * values[-1]
    root = strip.T @ (vectors[:, kept] / np.sqrt(values[kept]))  # K_nys = root root^T
    U, singular, _ = np.linalg.svd(root, full_matrices=False)
    found = singular**2
    weight = (found[-1] + ridge) / (found + ridge) - 1.0
    return lambda v: v + U @ (weight[:, None] * (U.T @ v))
